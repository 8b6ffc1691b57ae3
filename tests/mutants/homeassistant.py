"""The mutants of what Home Assistant is given, and of the integration's part of the contract."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_PROTOCOL = "custom_components/comfy2mqtt/protocol"
_TESTS = ("tests/custom_components/test_protocol.py",)
_LEDGER = ("tests/custom_components/test_ledger.py",)

_HUB = "custom_components/comfy2mqtt/hub.py"
_RESULTS = "custom_components/comfy2mqtt/results.py"
_CHECKS = "tests/peers/homeassistant_integration"
_HUB_CHECKS = f"{_CHECKS}/checks_hub.py"
_MISSED = f"{_CHECKS}/checks_missed.py"
_REPORTED_ONCE = f"{_CHECKS}/checks_reported_once.py"
_DEVICES = f"{_CHECKS}/checks_devices.py"
_NAMES = f"{_CHECKS}/checks_action_names.py"

HOMEASSISTANT: tuple[Mutant, ...] = (
    Mutant(
        name="home-assistant-acknowledges-nothing",
        file=_RESULTS,
        old='await self._ask("ack", up_to=up_to)',
        new="pass",
        guarantee="Home Assistant acknowledges a result that it has",
        tests=(f"{_HUB_CHECKS}::test_a_job_that_ends_is_an_event_a_picture_and_acknowledged",),
        home=True,
    ),
    Mutant(
        name="home-assistant-lists-nothing-missed",
        file=_HUB,
        old="if self.is_settled and self.is_available:\n            self._results.",
        new="if False:\n            self._results.",
        guarantee="what ended while the connection was away is listed once it is back",
        tests=(
            f"{_MISSED}::test_a_bridge_that_does_not_list_is_asked_again_after_the_next_interruption",
        ),
        home=True,
    ),
    Mutant(
        name="home-assistant-has-devices-twice",
        file="custom_components/comfy2mqtt/devices.py",
        old="return _own_device(hass, entry, workflow) if found is None else found",
        new="return _own_device(hass, entry, workflow)",
        guarantee="a workflow that discovery announces is one device and not two",
        tests=(f"{_DEVICES}::test_discoverys_devices_are_taken_and_not_made_twice",),
        home=True,
    ),
    Mutant(
        name="home-assistant-forgets-the-names-of-actions",
        file="custom_components/comfy2mqtt/action_names.py",
        old="kept = await load(self._store, read_names)",
        new="kept = {}",
        guarantee="an action of Home Assistant is of the same bridge after a restart",
        tests=(
            f"{_NAMES}::test_after_a_restart_an_action_is_of_the_same_bridge_whichever_is_loaded_first",
        ),
        home=True,
    ),
    Mutant(
        name="home-assistant-keeps-what-discovery-has-left",
        file="custom_components/comfy2mqtt/devices.py",
        old="_have_back(self._hass, self._entry, workflow, found.id)",
        new="pass",
        guarantee="the integration has devices of its own where discovery is turned off",
        tests=(
            f"{_DEVICES}::test_discovery_that_is_turned_off_leaves_our_devices_and_all_they_had",
        ),
        home=True,
    ),
    Mutant(
        name="home-assistant-tells-prompts",
        file="custom_components/comfy2mqtt/diagnostics.py",
        old="_SECRET = {CONF_CLIENT, CONF_INPUTS,",
        new="_SECRET = {CONF_CLIENT,",
        guarantee="diagnostics hold no prompt",
        tests=(f"{_HUB_CHECKS}::test_diagnostics_hold_no_prompt_and_no_name",),
        home=True,
    ),
    Mutant(
        name="home-assistant-leaves-what-took-too-long",
        file=_HUB,
        old="        except TimeoutError:\n"
        "            self._in_background(self._cancel_quietly(job_id))\n",
        new="        except TimeoutError:\n",
        guarantee="a job that took too long for an AI task is cancelled",
        tests=(f"{_CHECKS}/checks_ai_task.py::test_a_job_that_takes_too_long_is_cancelled",),
        home=True,
    ),
    Mutant(
        name="home-assistant-is-silent-about-silence",
        file=_HUB,
        old="self._note_silence(is_silent=True)",
        new="pass",
        guarantee="a broker that drops what Home Assistant asks is a repair",
        tests=(
            f"{_CHECKS}/checks_repairs.py::test_a_broker_that_drops_what_is_asked_in_our_name_is_a_repair_at_setup",
        ),
        home=True,
    ),
    Mutant(
        name="states-stay-when-home-assistant-is-turned-off",
        file="bridge/adapters/homeassistant/retained.py",
        old="        if self._prefix is None:\n            for",
        new="        if False:\n            for",
        guarantee="with homeassistant turned off nothing of ours stays retained for it",
        tests=("tests/adapters/homeassistant/test_withdrawal.py",),
    ),
    Mutant(
        name="another-prefix-clears-the-states-in-use",
        file="bridge/adapters/homeassistant/retained.py",
        old="        if self._prefix is None:\n            for",
        new="        if True:\n            for",
        guarantee="another discovery prefix costs no state of the devices",
        tests=("tests/adapters/homeassistant/test_withdrawal.py",),
    ),
    Mutant(
        name="very-many-choices-are-not-found",
        file="bridge/adapters/homeassistant/fields.py",
        old="found = nearest(like, self.options, len(self.options)) if like else self.options",
        new="found = self.options",
        guarantee="each of very many choices can be found in Home Assistant",
        tests=("tests/adapters/homeassistant/test_fields.py",),
    ),
    Mutant(
        name="home-assistant-acknowledges-unseen",
        file=f"{_PROTOCOL}/ledger.py",
        old="        self._settled = False\n\n    def settled",
        new="        pass\n\n    def settled",
        guarantee="Home Assistant acknowledges nothing before what it missed is listed",
        tests=_LEDGER,
    ),
    Mutant(
        name="home-assistant-takes-a-result-twice",
        file=f"{_PROTOCOL}/ledger.py",
        old="return not is_known or (None not in (before, own) and before != own)",
        new="return n > self.after",
        guarantee="a result that comes again is no second event",
        tests=_LEDGER,
    ),
    Mutant(
        name="home-assistant-forgets-while-it-catches-up",
        file=f"{_PROTOCOL}/ledger.py",
        old="if self._settled and not self._received:",
        new="if not self._received:",
        guarantee="of very many results that were missed none is a second event",
        tests=_LEDGER,
    ),
    Mutant(
        name="home-assistant-lists-once",
        file=_RESULTS,
        old="if not await self._acknowledge():\n                    self._is_listed = True\n"
        "                    break",
        new="await self._acknowledge()\n                if True:\n                    break",
        guarantee="what the broker did not take is acknowledged at once where it is listed",
        tests=(f"{_REPORTED_ONCE}::test_very_many_that_were_missed_are_reported_once_each",),
        home=True,
    ),
    Mutant(
        name="home-assistant-forgets-all-with-a-new-journal",
        file=_RESULTS,
        old="Ledger(taken=self._ledger.taken)",
        new="Ledger()",
        guarantee="a backup of a bridge that was restored tells Home Assistant nothing twice",
        tests=(f"{_REPORTED_ONCE}::test_a_bridge_whose_backup_was_restored_reports_nothing_twice",),
        home=True,
    ),
    Mutant(
        name="home-assistant-goes-round-a-list",
        file=f"{_PROTOCOL}/messages.py",
        old="if any(n <= before for before, n in pairwise(numbers)):",
        new="if False:",
        guarantee="a list whose numbers do not rise is an error, and is not followed for ever",
        tests=("tests/custom_components/test_decoding.py",),
    ),
    Mutant(
        name="home-assistant-passes-over-what-came-late",
        file=_RESULTS,
        old="self._ended(listed.result, listed.n, is_history=is_history)",
        new="listed.result.n > self._ledger.after and "
        "self._ended(listed.result, listed.n, is_history=is_history)",
        guarantee="a result that is listed under a higher number than its own has its event",
        tests=(f"{_MISSED}::test_a_result_that_comes_late_is_reported_once",),
        home=True,
    ),
    Mutant(
        name="home-assistant-only-peeks",
        file="custom_components/comfy2mqtt/requests.py",
        old="peek = not acknowledges or following != after",
        new="peek = True",
        guarantee="a result that the broker did not take has its event",
        tests=(
            f"{_MISSED}::test_what_the_broker_did_not_take_is_reported_once_after_the_next_interruption",
        ),
        home=True,
    ),
    Mutant(
        name="home-assistant-packet-too-large",
        file=f"{_PROTOCOL}/messages.py",
        old="room = min(room, (self.max_packet - HEADROOM) * 3 // 4)",
        new="room = min(room, self.max_packet - HEADROOM)",
        guarantee="what Home Assistant sends fits the broker's packets",
        tests=_TESTS,
    ),
    Mutant(
        name="home-assistant-takes-offline-for-idle",
        file=f"{_PROTOCOL}/automation_events.py",
        old='"is_idle": self.is_online and not self.is_busy',
        new='"is_idle": not self.is_busy',
        guarantee="an automation does not take a bridge that is offline for an idle one",
        tests=_TESTS,
    ),
    Mutant(
        name="pictures-overtake-each-other",
        file="bridge/adapters/homeassistant/adapter.py",
        old="async with asyncio.Lock() if device is None else device.showing:",
        new="async with asyncio.Lock():",
        guarantee="the picture that Home Assistant shows is that of the last job that ended",
        tests=("tests/adapters/homeassistant/test_adapter.py",),
    ),
    Mutant(
        name="switch-cannot-take-the-gpu-back",
        file="bridge/requests/operator.py",
        old="case Yield(yielded=False):",
        new="case Yield(yielded=False) if False:",
        guarantee="one topic yields the GPU and takes it back",
        tests=("tests/requests/test_operator.py",),
    ),
    Mutant(
        name="switch-cannot-resume-the-queue",
        file="bridge/requests/operator.py",
        old="case PauseQueue(paused=True):",
        new="case PauseQueue():",
        guarantee="one topic pauses the queue and resumes it",
        tests=("tests/requests/test_operator.py",),
    ),
    Mutant(
        name="late-updates-of-a-job-count",
        file="bridge/adapters/homeassistant/job_updates.py",
        old="if job_id in self._ended or n < self._latest.get(job_id, 0):",
        new="if job_id in self._ended:",
        guarantee="updates that overtake each other leave the job's last state in Home Assistant",
        tests=("tests/adapters/homeassistant/test_job_updates.py",),
    ),
    Mutant(
        name="an-end-is-shown-twice",
        file="bridge/adapters/homeassistant/job_updates.py",
        old="            return False\n        self._ended[job_id] = None",
        new="            return True\n        self._ended[job_id] = None",
        guarantee="the end of a job that comes again is no second event in Home Assistant",
        tests=("tests/adapters/homeassistant/test_job_updates.py",),
    ),
    Mutant(
        name="an-old-file-overrides-what-was-set",
        file="bridge/adapters/homeassistant/inputs.py",
        old="await self._store.keep(KIND, found, new=True)",
        new="await self._store.keep(KIND, found)",
        guarantee="what was set in Home Assistant since an upgrade stays",
        tests=("tests/adapters/homeassistant/test_inputs.py",),
    ),
    Mutant(
        name="others-comfyuis-are-not-described",
        file="bridge/workflows/library.py",
        old="if gone or not catalogue.knows(others):",
        new="if gone:",
        guarantee="a request is refused only if no bridge of the group can run it",
        tests=("tests/workflows/test_library.py",),
    ),
    Mutant(
        name="offers-of-members-are-swept",
        file="bridge/jobs/journal/offers.py",
        old="            db.execute(queries.SEE_OFFERS)\n",
        new="",
        guarantee="what a bridge's ComfyUIs have is known for as long as it is a member",
        tests=("tests/jobs/test_adapter_store.py",),
        postgresql=True,
    ),
    Mutant(
        name="a-stopping-bridge-keeps-what-waits",
        file="bridge/jobs/core/lifecycle.py",
        old="if not self._alone and entry.not_started:",
        new="if False:",
        guarantee="a bridge of a group that stops gives back what has not begun",
        tests=("tests/jobs/core/test_group.py",),
    ),
    Mutant(
        name="two-pictures-for-one-display",
        file="bridge/adapters/mqtt/retained_images.py",
        old="await until_on_disk(lambda: self._agree(name, image))",
        new="pass",
        guarantee="the picture that a broker retains is the last one in the journal",
        tests=("tests/adapters/mqtt/test_retained_images.py",),
    ),
    Mutant(
        name="add-on-loses-a-backup-that-cannot-be-restored",
        file="docs/deploy/home-assistant-addon/run.py",
        old="subprocess.run(restore, check=False).returncode != 0:",
        new="subprocess.run(restore, check=False).returncode < 0:",
        guarantee="a backup that cannot be restored stays, and no bridge begins without it",
        tests=("tests/deploy/test_home_assistant_addon.py",),
        slow=True,
    ),
)
