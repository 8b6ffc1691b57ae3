"""The life of a job: its states, the queue's order, the journal, and the run at a ComfyUI."""
