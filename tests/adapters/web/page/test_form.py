"""The form: what is wrong said at once, presets, and the painter of masks."""

from __future__ import annotations

import pytest

from tests.adapters.web.page.conftest import SMALL, Visit, choose, painted, picture

# The fields, lists and rows of tabs whose text is wider than the room that it has.
CUT = """() => {
    const pen = document.createElement("canvas").getContext("2d");
    const found = [];
    for (const each of document.querySelectorAll("input, select, .tabs")) {
        if (!each.checkVisibility() || each.matches("[type=range], [type=file]")) continue;
        const style = getComputedStyle(each);
        const isHint = each.matches("input") && !each.value;
        const size = (isHint ? getComputedStyle(each, "::placeholder") : style).fontSize;
        const text = each.selectedOptions?.[0]?.text ?? (each.value || each.placeholder);
        pen.font = `${style.fontWeight} ${size} ${style.fontFamily}`;
        const isTabs = each.matches(".tabs");
        const padding = parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
        const room = each.clientWidth - (isTabs ? 0 : padding);
        const width = isTabs ? each.scrollWidth : pen.measureText(text).width;
        if (width > room + 1) found.push(`${text ?? "tabs"}: ${width} of ${room}`);
    }
    return found;
}"""

pytestmark = [pytest.mark.comfyui, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]


async def test_all_that_is_wrong_is_shown_at_once_and_nothing_is_sent(
    visit: Visit, client: str
) -> None:
    window = await visit(client)
    await window.field("width").fill("5000")
    await window.field("steps").fill("0.5")
    await window.at('[data-input="seed"] input').fill("many")
    await window.page.keyboard.press("Control+Enter")
    await window.at("#form-problem", text="3 fields need a change.").wait_for()
    said = await window.at(".field .problem:not([hidden])").all_inner_texts()
    assert said == [
        "Enter digits only, or leave empty for a random seed.",
        "Enter a number from 64 to 2048.",
        "Enter a whole number.",
    ]
    assert await window.at('[data-input="seed"] :focus').count() == 1
    assert await window.at("#tiles li").count() == 0
    # A field that is put right is marked no longer.
    await window.field("width").fill("256")
    assert await window.at(".refused").count() == 2


async def test_required_fields_say_so(visit: Visit, client: str) -> None:
    window = await visit(client, "masked")
    assert await window.at('[data-input="picture"] .required').inner_text() == "required"
    await window.page.goto(f"{window.address}#demo")
    await window.at('[data-input="prompt"]').wait_for()
    assert await window.at('[data-input="prompt"] .required').is_hidden()


async def test_presets_stay_and_defaults_come_back(visit: Visit, client: str) -> None:
    window = await visit(client)
    plain = await window.field("prompt").input_value()
    await window.field("prompt").fill("a barn at night")
    await window.field("width").fill("320")
    await window.press("Save as preset")
    await window.page.get_by_role("textbox", name="Name of the preset").fill("night")
    await window.page.keyboard.press("Enter")
    await window.press("Reset to defaults")
    assert await window.field("prompt").input_value() == plain
    await window.page.reload()
    await window.page.get_by_label("Preset", exact=True).select_option("night")
    assert await window.field("prompt").input_value() == "a barn at night"
    assert await window.field("width").input_value() == "320"
    await window.press("Delete preset")
    await window.at("dialog.ask").get_by_role("button", name="Delete preset").click()
    await window.page.get_by_label("Preset", exact=True).wait_for(state="hidden")


async def test_the_painter_zooms_redoes_and_feels_a_pens_pressure(
    visit: Visit, client: str
) -> None:
    window = await visit(client, "masked")
    await choose(window, "picture", picture())
    await window.press("Paint it")
    canvas = window.at("canvas.strokes")
    await window.at("canvas.strokes:focus").wait_for()
    assert "undo" in await window.at(".painter-keys").inner_text()
    # The brush is 8 of 96 pixels wide; the pen at a quarter of its pressure paints 2.
    await canvas.evaluate(
        """(canvas) => {
            const box = canvas.getBoundingClientRect();
            canvas.setPointerCapture = () => {};
            const at = (x, y) => ({
                pointerId: 5, isPrimary: true, button: 0, bubbles: true,
                clientX: box.left + (x * box.width) / 96, clientY: box.top + (y * box.height) / 64,
            });
            const pen = { pointerType: "pen", pressure: 0.25, buttons: 1 };
            canvas.dispatchEvent(new PointerEvent("pointerdown", { ...at(20, 20), ...pen }));
            canvas.dispatchEvent(new PointerEvent("pointerup", { ...at(20, 20), ...pen }));
        }"""
    )
    assert await painted(window, (20, 20), (20, 23)) == [True, False]
    await window.page.keyboard.press("Control+z")
    assert await painted(window, (20, 20)) == [False]
    await window.page.keyboard.press("Control+Shift+z")
    assert await painted(window, (20, 20)) == [True]
    await window.press("Undo")
    await window.press("Redo")
    assert await painted(window, (20, 20)) == [True]
    assert await window.page.get_by_role("button", name="Redo").is_disabled()
    # Zoomed, a click paints where it is.
    before = await canvas.bounding_box()
    await window.press("Zoom in")
    after = await canvas.bounding_box()
    assert before is not None
    assert after is not None
    assert after["width"] == pytest.approx(1.5 * before["width"])
    middle = (after["x"] + after["width"] / 2, after["y"] + after["height"] / 2)
    await window.page.mouse.click(*middle)
    assert await painted(window, (48, 32), (48, 38)) == [True, False]
    await window.press("Cancel")


async def test_an_input_without_a_name_is_labelled_with_its_node_and_its_own_name(
    visit: Visit, client: str
) -> None:
    window = await visit(client, "plain")
    await window.at("#more summary").click()
    labels = await window.at("#form .field > label").all_inner_texts()
    assert {"EmptyImage: width", "EmptyImage: color", "SaveImage: filename_prefix"} <= {
        label.strip() for label in labels
    }


async def test_a_picture_that_the_browser_cannot_show_is_no_broken_icon(
    visit: Visit, client: str
) -> None:
    window = await visit(client, "masked")
    await choose(window, "picture", b"\x89PNG\r\n\x1a\n" + bytes(99))
    shown = window.at('[data-input="picture"] .shown')
    await shown.get_by_text("The browser cannot show this picture.").wait_for()
    assert await shown.locator("img").count() == 0


async def test_on_a_phone_no_text_of_the_form_and_the_gallery_is_cut(
    visit: Visit, client: str
) -> None:
    window = await visit(client, viewport={"width": 390, "height": 844})
    await window.ended(await window.run(prompt="a barn", **SMALL))
    await window.at("#code-samples summary").click()
    await window.at(".tabs button").first.wait_for()
    assert await window.page.evaluate(CUT) == []


async def test_a_code_sample_names_an_example_where_a_picture_is_still_to_be_chosen(
    visit: Visit, client: str
) -> None:
    window = await visit(client, "masked")
    await window.at("#code-samples summary").click()
    sample = window.at("#sample pre")
    assert "-f 'picture.png'" in await sample.inner_text()
    await window.page.get_by_role("tab", name="Python").click()
    assert 'picture=Path("picture.png")' in await sample.inner_text()
