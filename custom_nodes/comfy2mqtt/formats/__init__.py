"""Between encoded bytes and what flows through a graph.

Images, sound and film, each way; nothing here knows of nodes, prompts or ComfyUI. Bytes that are
read come from clients: every reader has a closed list of formats and a limit on what it unpacks.
Equal values are equal bytes: no writer puts a date, a random number or a graph into a file.
"""
