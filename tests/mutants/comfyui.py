"""Mutants of ComfyUI: its supervision, its connection."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

COMFYUI: tuple[Mutant, ...] = (
    # The ComfyUI that is the bridge's own.
    Mutant(
        name="guard-of-nothing",
        file="custom_nodes/comfy2mqtt/guard.py",
        old="if not self.lets_in(request.path, request.headers):",
        new="if False:",
        guarantee="every route of the bridge's own ComfyUI asks for its secret",
        tests=("tests/custom_nodes/test_guard.py",),
    ),
    Mutant(
        name="links-for-ever",
        file="custom_nodes/comfy2mqtt/guard.py",
        old="            del self._until[found]\n",
        new="            pass\n",
        guarantee="a link to the page of the bridge's own ComfyUI is good once",
        tests=("tests/custom_nodes/test_guard.py",),
    ),
    Mutant(
        name="cookie-from-any-origin",
        file="custom_nodes/comfy2mqtt/guard.py",
        old="if origin is not None and _host_of(origin) != host:",
        new="if False:",
        guarantee="a page from elsewhere does nothing with a browser that was let in",
        tests=("tests/custom_nodes/test_guard.py",),
    ),
    Mutant(
        name="cookie-under-any-name",
        file="custom_nodes/comfy2mqtt/guard.py",
        old="    if not _is_loopback(host):\n        return False\n",
        new="",
        guarantee="a foreign name for this machine does nothing with a browser that was let in",
        tests=("tests/custom_nodes/test_guard.py",),
    ),
    Mutant(
        name="supervised-unguarded",
        file="bridge/comfyui/supervisor.py",
        old='            _GUARD: "1",\n',
        new="",
        guarantee="a ComfyUI that the bridge starts is guarded",
        tests=("tests/comfyui/test_supervisor.py",),
    ),
    Mutant(
        name="unguarded-is-not-noticed",
        file="bridge/comfyui/supervisor.py",
        old="return hello.pid, await client.answers_strangers()",
        new="return hello.pid, False",
        guarantee="one that is not guarded is noticed",
        tests=("tests/comfyui/test_supervisor.py",),
    ),
    # ComfyUI.
    Mutant(
        name="interrupt-unseen",
        file="bridge/comfyui/client.py",
        old="if prompt_id in queue.running:",
        new="if True:",
        guarantee="what is not ours on a shared ComfyUI is never interrupted",
        tests=("tests/comfyui/test_client.py", "tests/comfyui/test_session.py"),
    ),
    Mutant(
        name="crash-loop-for-ever",
        file="bridge/comfyui/supervisor.py",
        old="if hopeless or self._early >= self._limit:",
        new="if hopeless:",
        guarantee="a ComfyUI that ends again and again is given a long pause",
        tests=("tests/comfyui/test_restart_policy.py",),
    ),
    Mutant(
        name="orphans-of-comfyui",
        file="bridge/comfyui/subreaper.py",
        old="                if not os.read(descriptor, 4096):\n                    return\n",
        new="            os.read(descriptor, 4096)\n",
        guarantee="a bridge that dies leaves no ComfyUI behind",
        tests=("tests/comfyui/test_process.py",),
    ),
    Mutant(
        name="nodes-asked-once",
        file="bridge/service/descriptions.py",
        old="            if succeeded:\n",
        new="            if True:\n",
        guarantee="a ComfyUI that failed to report its nodes is asked until it does",
        tests=("tests/service/test_descriptions.py",),
    ),
    Mutant(
        name="output-fetched-once",
        file="bridge/comfyui/prompt_tracker.py",
        old="if not final and prompt.failed_fetches < FETCH_ATTEMPTS:",
        new="if False:",
        guarantee="an output that could not be fetched once is fetched again",
        tests=("tests/comfyui/test_prompt_tracker.py", "tests/comfyui/test_session.py"),
    ),
    Mutant(
        name="prompt-sent-twice-behind-a-proxy",
        file="bridge/comfyui/session.py",
        old="                if not error.may_have_arrived:\n",
        new="                if True:\n",
        guarantee="a prompt that arrived is followed, whatever a proxy answers in ComfyUI's place",
        tests=("tests/comfyui/test_session.py",),
    ),
    Mutant(
        name="yielding-takes-prompts",
        file="bridge/comfyui/state.py",
        old="closed = yielding or self._closing or self._unusable",
        new="closed = self._closing or self._unusable",
        guarantee="a ComfyUI that the operator leaves to others gets no jobs",
        tests=("tests/comfyui/test_state.py",),
    ),
    Mutant(
        name="updated-under-a-job",
        file="bridge/comfyui/releases.py",
        old='_AT_WORK = ("ready", "busy", "unreachable")',
        new='_AT_WORK = ("ready", "busy")',
        guarantee="another release of ComfyUI replaces none that may have a job",
        tests=("tests/comfyui/test_update_policy.py",),
    ),
    Mutant(
        name="upgrade-removes-what-runs",
        file="bridge/comfyui/managed.py",
        old="            if is_marked(each):\n",
        new="            if False:\n",
        guarantee="an upgrade removes no version that a running bridge uses",
        tests=("tests/comfyui/test_managed.py",),
    ),
    Mutant(
        name="updated-to-what-fails",
        file="bridge/comfyui/updates.py",
        old=(
            "                for each, config in before.items():\n"
            "                    _restart(each, config)\n"
        ),
        new="",
        guarantee="a release that does not start leaves the one before at work",
        tests=(
            "tests/comfyui/test_updates.py::test_a_release_that_does_not_start_leaves_the_one_before",
        ),
        slow=True,
    ),
)
