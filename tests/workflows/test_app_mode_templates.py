"""The inputs and outputs of all templates whose authors chose some, in App Mode: read by eye.

Each row has the inputs, `name=kind@place`, and where one value goes to more places these after a
`+`; the outputs, `kind@node`, previews with a `?`; and the classes that a server of 0.33 lacks.

What an author chose and is not here is not in the file any more, or not a value there: `12.prompt`
feeds `4.prompt` in `template_product_placement`; the camera view of `template_qwen_multiangle` is
the page's; the primitives of `template_contact_sheet-step_3` feed reroutes, which hand on no value.
Where nothing chosen is left, all outputs are there (`templates_mjm_image_to_3d`); two have an empty
list of choices.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.workflows import source
from bridge.workflows.workflow import Workflow
from tests.vectors import comparison

TEMPLATES: dict[str, tuple[str, str, str]] = {
    "api_sonilo_v2m": (
        (
            "video=video@705.file prompt=text@703.prompt volume=integer@724:722.volume "
            "volume_2=integer@724:719.volume"
        ),
        "video@708 audio@728",
        "",
    ),
    "image_anima_lllite_depth_control_to_image": (
        "image=image@91.image prompt=text@88:84.text",
        "image@46 image@92?",
        "",
    ),
    "image_anima_lllite_image_inpainting": (
        "image=image@91.image prompt=text@88:84.text",
        "image@46 image@695?",
        "",
    ),
    "image_hidream_o1": (
        (
            "prompt=text@175:165.value prompt_2=text@175:170.string prompt_3=text@188.text "
            "image=image@213.image seed=seed@108.noise_seed "
            "seed_2=seed@175:164.sampling_mode.seed steps=integer@112.steps cfg=float@108.cfg "
            "denoise=float@112.denoise width=integer@156.width height=integer@156.height "
            "batch_size=integer@156.batch_size batch_size_2=integer@172.batch_size "
            "sampler=choice@230.sampler_name scheduler=choice@112.scheduler "
            "checkpoint=choice@6.ckpt_name switch_to_image_edit=boolean@154.value "
            "enable_prompt_refine=boolean@177.value user_prompt=text@171.value"
        ),
        "image@227 text@221?",
        "",
    ),
    "image_hidream_o1_dev": (
        (
            "prompt=text@175:165.value prompt_2=text@175:170.string prompt_3=text@188.text "
            "image=image@213.image seed=seed@108.noise_seed "
            "seed_2=seed@175:164.sampling_mode.seed steps=integer@112.steps cfg=float@108.cfg "
            "denoise=float@112.denoise width=integer@156.width height=integer@156.height "
            "batch_size=integer@156.batch_size batch_size_2=integer@172.batch_size "
            "scheduler=choice@112.scheduler checkpoint=choice@6.ckpt_name "
            "switch_to_image_edit=boolean@154.value enable_prompt_refine=boolean@177.value "
            "user_prompt=text@171.value"
        ),
        "image@227 text@221?",
        "",
    ),
    "image_joyai_image_edit": ("image=image@41.image prompt=text@170:174.prompt", "image@182", ""),
    "image_krea2_turbo_int8_image_style_reference": (
        (
            "image=image@69.image prompt=text@30:19.value aspect_ratio=choice@71.aspect_ratio "
            "megapixels=float@71.megapixels"
        ),
        "image@29 text@30:20?",
        "",
    ),
    "image_mage_flow_turbo_t2i_int8": (
        (
            "prompt=text@12:5.prompt aspect_ratio=choice@27.aspect_ratio "
            "megapixels=float@27.megapixels"
        ),
        "image@10",
        "",
    ),
    "template_character_portrait_relighting": (
        "image=image@124.image",
        "image@138 image@152 image@158 image@170 image@181",
        "",
    ),
    "template_contact_sheet-step_1.app": (
        (
            "image=image@1.image image_2=image@2.image image_3=image@5.image "
            "aspect_ratio=choice@3.aspect_ratio resolution=choice@3.resolution "
            "prompt=text@125.value"
        ),
        "image@4",
        "",
    ),
    "template_contact_sheet-step_3.app": (
        (
            "image=image@224.image image_2=image@226.image image_3=image@227.image "
            "image_4=image@228.image image_5=image@232.image image_6=image@233.image "
            "image_7=image@234.image seed=seed@309:310.seed seed_2=seed@345:343.seed "
            "seed_3=seed@353:351.seed seed_4=seed@361:359.seed seed_5=seed@369:367.seed "
            "seed_6=seed@377:375.seed seed_7=seed@385:383.seed"
        ),
        "video@308 video@344 video@352 video@360 video@368 video@376 video@384",
        "",
    ),
    "template_eric_thumbnail_generator": (
        "image=image@16.image prompt=text@23.prompt",
        "image@9",
        "",
    ),
    "template_product_placement": (
        (
            "prompt=text@12.prompt image=image@1.image image_2=image@2.image "
            "image_3=image@3.image image_4=image@5.image"
        ),
        "image@7? video@10",
        "",
    ),
    "template_qwen_image_illustration_lora": (
        (
            "prompt=text@76:6.text width=integer@76:58.width height=integer@76:58.height "
            "strength_model=float@76:73.strength_model batch_size=integer@76:58.batch_size "
            "steps=integer@76:3.steps"
        ),
        "image@60",
        "",
    ),
    "template_qwen_multiangle.app": ("image=image@1.image", "image@2", "CameraAngle"),
    "template_seedance2_0_viral_videos_character_swap": (
        "image=image@29.image video=video@18.file model=choice@26.model seed=seed@26.seed",
        "image@295 text@22? video@282",
        "GeminiNodeV3",
    ),
    "template_sferro21_product_ad.app": (
        (
            "image=image@1.image image_2=image@2.image prompt=text@4.prompt "
            "aspect_ratio=choice@4.aspect_ratio"
        ),
        "image@5",
        "",
    ),
    "template_sugar_coated_gummy_style_qwen": (
        (
            "prompt=text@76:80.string_a width=integer@76:58.width height=integer@76:58.height "
            "strength_model=float@76:78.strength_model"
        ),
        "image@60",
        "",
    ),
    "templates-1_input-multiple_styles_prompt.app": (
        "image=image@1.image",
        (
            "image@3 image@5 image@7 image@11 image@21 image@23 image@27 image@25 image@19 "
            "image@17 image@15 image@13"
        ),
        "",
    ),
    "templates-subject_holding_product.app": (
        "image=image@10.image image_2=image@11.image resolution=choice@17.resolution",
        "image@15",
        "",
    ),
    "templates-subject_product_swap.app": (
        "image=image@10.image image_2=image@11.image resolution=choice@17.resolution",
        "image@15",
        "",
    ),
    "templates_3d_match_game_art_style.app": (
        "image=image@2.image image_2=image@1.image",
        "image@7? image@5 image@3",
        "",
    ),
    "templates_graphic_design_recomposer": (
        (
            "image=image@125.image custom_combo=choice@143:135.choice "
            "resolution=choice@143:130.resolution+143:157.model.resolution "
            "aspect_ratio=choice@143:130.aspect_ratio+143:157.model.aspect_ratio"
        ),
        "image@131",
        "",
    ),
    "templates_mjm_image_to_3d": (
        "image=image@1.image",
        "image@25 image@26 image@27 file@7 file@28 file@24?",
        "",
    ),
    "templates_ohneis_i2v": (
        "prompt=text@57:27.text prompt_2=text@64.prompt prompt_3=text@65.prompt",
        "image@9 video@63",
        "",
    ),
    "templates_rob_portrait_light_migration.app": (
        "image=image@7.image image_2=image@6.image",
        "image@5",
        "",
    ),
    "templates_rob_realistic_2k_images_quick_variations.app": (
        "image=image@77.image",
        "text@136? image@103 image@108",
        "ImageRemoveAlpha+ AILab_QwenVL",
    ),
    "utility_image_stitch": (
        (
            "image=image@12.image image_2=image@13.image image_3=image@14.image "
            "image_4=image@15.image width=integer@21.resize_type.width "
            "height=integer@21.resize_type.height"
        ),
        "image@19",
        "",
    ),
    "utility_z_image_turbo_2k_upscaler.app": (
        "image=image@77.image denoise=float@87:69.denoise",
        "image@9",
        "",
    ),
}


def built(name: str) -> Workflow:
    data = json.dumps(comparison.load("templates-0.1.123")[name]).encode()
    return source.read(f"{name}.json", data).build("demo", comparison.live_object_info())


def test_the_table_has_all_of_them() -> None:
    declaring = {
        name
        for name, document in comparison.load("templates-0.1.123").items()
        if "linearData" in document.get("extra", {})
    }
    assert declaring == TEMPLATES.keys()
    assert len(declaring) == 29


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_takes_and_gives_what_its_author_chose(name: str) -> None:
    inputs, outputs, lacking = TEMPLATES[name]
    found = built(name)
    assert " ".join(map(_input, found.inputs)) == inputs
    assert " ".join(map(_output, found.outputs)) == outputs
    assert found.missing is not None
    assert " ".join(found.missing.nodes) == lacking


def _input(spec: Any) -> str:
    also = "".join(f"+{place}" for place in spec.also)
    return f"{spec.name}={spec.kind}@{spec.target}{also}"


def _output(output: Any) -> str:
    return f"{output.kind}@{output.node}{'?' if output.preview is True else ''}"
