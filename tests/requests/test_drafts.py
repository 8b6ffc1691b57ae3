from __future__ import annotations

import pytest

from bridge.contract.errors import ComfyUIUnavailable, InvalidInput
from bridge.contract.retained import Missing, MissingChoice
from bridge.requests.drafts import check_runnable, may_be_stale
from bridge.workflows.binding import BoundPrompt


def bound(**names: str) -> BoundPrompt:
    return BoundPrompt(prompt={}, inputs={}, names=names, given={}, media=[])


CHOICE = MissingChoice(node="3", input="ckpt", value="old", allowed=["new"])


def test_a_choice_that_the_request_made_is_its_own_fault() -> None:
    with pytest.raises(InvalidInput) as caught:
        check_runnable("mine", bound(**{"3.ckpt": "model"}), Missing(nodes=[], choices=[CHOICE]))
    assert caught.value.details == {"input": "model", "allowed": ["new"]}
    assert may_be_stale(caught.value)


def test_a_choice_that_the_workflow_made_is_missing() -> None:
    with pytest.raises(ComfyUIUnavailable, match="old"):
        check_runnable("mine", bound(), Missing(nodes=[], choices=[CHOICE]))


def test_a_model_that_is_missing_is_named_with_its_folder_and_what_fetches_it() -> None:
    model = MissingChoice(
        node="3", input="ckpt", value="a.ckpt", allowed=[], folder="checkpoints", url="https://h/a"
    )
    with pytest.raises(ComfyUIUnavailable) as caught:
        check_runnable("mine", bound(), Missing(choices=[model]))
    assert "models/checkpoints/a.ckpt" in caught.value.message
    assert "comfy2mqtt models get mine" in caught.value.message


def test_while_no_comfyui_has_reported_its_nodes_a_job_waits() -> None:
    check_runnable("mine", bound(), None)
    check_runnable("mine", bound(), Missing(nodes=[], choices=[]))


def test_what_lacks_a_key_is_refused_with_the_setting() -> None:
    with pytest.raises(ComfyUIUnavailable) as caught:
        check_runnable("mine", bound(), Missing(api_key=["GeminiNode"]))
    assert caught.value.details["setting"] == "comfyui_api_key_file"
    assert "GeminiNode" in caught.value.message
