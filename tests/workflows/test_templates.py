"""Templates of all kinds, and what their definitions say: read by eye.

Each row has the inputs, `name=kind@place`, and the outputs, `kind@node`, previews with a `?`. A
model is a text, since the server of these vectors has none. App Mode's are in
test_app_mode_templates.py, all of them in docs/templates.md.
"""

from __future__ import annotations

import json

import pytest

from bridge.workflows import source
from tests.vectors import comparison

TEMPLATES: dict[str, tuple[str, str]] = {
    # image
    "image_z_image_turbo": (
        (
            "prompt=text@57:27.text seed=seed@57:3.seed steps=integer@57:3.steps "
            "cfg=float@57:3.cfg denoise=float@57:3.denoise width=integer@57:13.width "
            "height=integer@57:13.height batch_size=integer@57:13.batch_size "
            "sampler=choice@57:3.sampler_name scheduler=choice@57:3.scheduler "
            "model=text@57:28.unet_name"
        ),
        "image@9",
    ),
    "flux_dev_checkpoint_example": (
        (
            "prompt=text@56:51.text seed=seed@56:52.seed steps=integer@56:52.steps "
            "cfg=float@56:52.cfg denoise=float@56:52.denoise width=integer@56:50.width "
            "height=integer@56:50.height batch_size=integer@56:50.batch_size "
            "sampler=choice@56:52.sampler_name scheduler=choice@56:52.scheduler "
            "model=text@56:48.unet_name"
        ),
        "image@9",
    ),
    "image_qwen_image": (
        (
            "prompt=text@76:6.text negative_prompt=text@76:7.text seed=seed@76:3.seed "
            "steps=integer@76:79.value steps_2=integer@76:84.value cfg=float@76:81.value "
            "cfg_2=float@76:85.value denoise=float@76:3.denoise width=integer@76:58.width "
            "height=integer@76:58.height batch_size=integer@76:58.batch_size "
            "sampler=choice@76:3.sampler_name scheduler=choice@76:3.scheduler "
            "model=text@76:37.unet_name lora=text@76:73.lora_name "
            "enable_lightning_lora=boolean@76:86.value"
        ),
        "image@60",
    ),
    "image_chroma_text_to_image": (
        (
            "prompt=text@748.text negative_prompt=text@749.text seed=seed@718.noise_seed "
            "steps=integer@734.steps cfg=float@694.cfg denoise=float@734.denoise "
            "width=integer@737.width height=integer@737.height batch_size=integer@737.batch_size "
            "sampler=choice@700.sampler_name scheduler=choice@734.scheduler "
            "model=text@731.unet_name"
        ),
        "image@740",
    ),
    "sdxl_simple_example": (
        (
            "prompt=text@6.text prompt_2=text@15.text negative_prompt=text@7.text "
            "negative_prompt_2=text@16.text seed=seed@10.noise_seed seed_2=seed@11.noise_seed "
            "steps=integer@10.steps steps_2=integer@11.steps cfg=float@10.cfg cfg_2=float@11.cfg "
            "width=integer@5.width height=integer@5.height batch_size=integer@5.batch_size "
            "sampler=choice@10.sampler_name sampler_2=choice@11.sampler_name "
            "scheduler=choice@10.scheduler scheduler_2=choice@11.scheduler "
            "checkpoint=choice@4.ckpt_name checkpoint_2=choice@12.ckpt_name"
        ),
        "image@19",
    ),
    "hidream_i1_dev": (
        (
            "prompt=text@16.text negative_prompt=text@40.text seed=seed@3.seed "
            "steps=integer@3.steps cfg=float@3.cfg denoise=float@3.denoise width=integer@53.width "
            "height=integer@53.height batch_size=integer@53.batch_size "
            "sampler=choice@3.sampler_name scheduler=choice@3.scheduler model=text@76.unet_name"
        ),
        "image@9",
    ),
    "image_flux2": (
        (
            "prompt=text@68:6.text image=image@46.image seed=seed@68:25.noise_seed "
            "steps=integer@68:90.value steps_2=integer@68:91.value guidance=float@68:26.guidance "
            "batch_size=integer@68:47.batch_size sampler=choice@68:16.sampler_name "
            "model=text@68:12.unet_name lora=text@68:89.lora_name "
            "enable_8_steps_lora=boolean@68:94.value"
        ),
        "image@9",
    ),
    # edit
    "image_qwen_image_edit_2509": (
        (
            "prompt=text@433:111.prompt negative_prompt=text@433:110.prompt image=image@78.image "
            "seed=seed@433:3.seed steps=integer@433:438.value cfg=float@433:437.value "
            "cfg_2=float@433:439.value denoise=float@433:3.denoise "
            "sampler=choice@433:3.sampler_name scheduler=choice@433:3.scheduler "
            "model=text@433:37.unet_name lora=text@433:89.lora_name stpes=integer@433:436.value "
            "enable_lightning_lora=boolean@433:443.value"
        ),
        "image@469",
    ),
    "flux_kontext_dev_basic": (
        (
            "prompt=text@192:6.text image=image@190.image seed=seed@192:31.seed "
            "steps=integer@192:31.steps cfg=float@192:31.cfg guidance=float@192:35.guidance "
            "denoise=float@192:31.denoise sampler=choice@192:31.sampler_name "
            "scheduler=choice@192:31.scheduler model=text@192:37.unet_name"
        ),
        "image@136",
    ),
    "flux_fill_inpaint_example": (
        (
            "prompt=text@47:23.text image=image@17.image seed=seed@47:3.seed "
            "steps=integer@47:3.steps cfg=float@47:3.cfg guidance=float@47:26.guidance "
            "denoise=float@47:3.denoise sampler=choice@47:3.sampler_name "
            "scheduler=choice@47:3.scheduler model=text@47:31.unet_name"
        ),
        "image@9",
    ),
    "image_flux2_fp8": (
        (
            "prompt=text@62:6.text image=image@42.image image_2=image@46.image "
            "seed=seed@62:25.noise_seed guidance=float@62:26.guidance "
            "batch_size=integer@62:47.batch_size sampler=choice@62:16.sampler_name "
            "model=text@62:12.unet_name lora=text@62:88.lora_name step=integer@62:90.value "
            "step_2=integer@62:92.value enable_8steps_lora=boolean@62:95.value"
        ),
        "image@9",
    ),
    "Image_capybara_v0_1_image_edit": (
        (
            "prompt=text@103:44.text negative_prompt=text@103:93.text image=image@80.image "
            "seed=seed@103:25.noise_seed steps=integer@103:17.steps cfg=float@103:91.cfg "
            "denoise=float@103:17.denoise width=integer@103:105.resize_type.width "
            "height=integer@103:105.resize_type.height batch_size=integer@103:78.batch_size "
            "sampler=choice@103:16.sampler_name scheduler=choice@103:17.scheduler "
            "model=text@103:12.unet_name"
        ),
        "image@102",
    ),
    # video
    "video_wan2_2_14B_t2v": (
        (
            "prompt=text@128:89.text negative_prompt=text@128:72.text seed=seed@128:78.noise_seed "
            "seed_2=seed@128:81.noise_seed width=integer@128:74.width "
            "height=integer@128:74.height batch_size=integer@128:74.batch_size "
            "fps=float@128:125.value sampler=choice@128:78.sampler_name "
            "sampler_2=choice@128:81.sampler_name scheduler=choice@128:78.scheduler "
            "scheduler_2=choice@128:81.scheduler model=text@128:75.unet_name "
            "model_2=text@128:76.unet_name lora=text@128:83.lora_name "
            "lora_2=text@128:85.lora_name int_steps=integer@128:114.value "
            "int_steps_2=integer@128:117.value int_split_steps=integer@128:115.value "
            "int_split_steps_2=integer@128:118.value float_cfg=float@128:116.value "
            "float_cfg_2=float@128:119.value float_duration=float@128:126.value "
            "enable_lightning_lora=boolean@128:129.value"
        ),
        "video@80",
    ),
    "video_wan2_2_14B_i2v": (
        (
            "prompt=text@129:93.text negative_prompt=text@129:89.text image=image@97.image "
            "seed=seed@129:85.noise_seed seed_2=seed@129:86.noise_seed width=integer@129:98.width "
            "height=integer@129:98.height batch_size=integer@129:98.batch_size "
            "fps=float@129:162.value sampler=choice@129:85.sampler_name "
            "sampler_2=choice@129:86.sampler_name scheduler=choice@129:85.scheduler "
            "scheduler_2=choice@129:86.scheduler model=text@129:95.unet_name "
            "model_2=text@129:96.unet_name lora=text@129:101.lora_name "
            "lora_2=text@129:102.lora_name int_steps=integer@129:118.value "
            "int_steps_2=integer@129:128.value enable_4steps_lora=boolean@129:131.value "
            "int_split_step=integer@129:124.value int_split_step_2=integer@129:127.value "
            "float_cfg=float@129:122.value float_cfg_2=float@129:126.value "
            "float_duration=float@129:161.value"
        ),
        "video@108",
    ),
    "video_ltx2_t2v": (
        (
            "prompt=text@92:3.text negative_prompt=text@92:4.text seed=seed@92:11.noise_seed "
            "seed_2=seed@92:67.noise_seed steps=integer@92:9.steps cfg=float@92:47.cfg "
            "cfg_2=float@92:82.cfg width=integer@92:89.width height=integer@92:89.height "
            "batch_size=integer@92:43.batch_size batch_size_2=integer@92:51.batch_size "
            "batch_size_3=integer@92:89.batch_size length=integer@92:62.value "
            "fps=float@92:102.value sampler=choice@92:8.sampler_name "
            "sampler_2=choice@92:66.sampler_name checkpoint=choice@92:1.ckpt_name "
            "checkpoint_2=choice@92:48.ckpt_name checkpoint_3=choice@92:60.ckpt_name "
            "lora=text@92:68.lora_name frame_rate_int=integer@92:103.value"
        ),
        "video@75",
    ),
    "video_hunyuan_video_1.5_720p_t2v": (
        (
            "prompt=text@44.text negative_prompt=text@93.text seed=seed@129.noise_seed "
            "steps=integer@128.steps cfg=float@131.cfg denoise=float@128.denoise "
            "width=integer@124.width height=integer@124.height batch_size=integer@124.batch_size "
            "length=integer@124.length fps=float@101.fps sampler=choice@130.sampler_name "
            "scheduler=choice@128.scheduler model=text@12.unet_name"
        ),
        "video@102",
    ),
    "wan2.1_fun_control": (
        (
            "prompt=text@6.text negative_prompt=text@7.text image=image@52.image "
            "video=video@80.file seed=seed@3.seed steps=integer@3.steps cfg=float@3.cfg "
            "denoise=float@3.denoise width=integer@55.width height=integer@55.height "
            "batch_size=integer@55.batch_size length=integer@55.length fps=float@79.fps "
            "sampler=choice@3.sampler_name scheduler=choice@3.scheduler model=text@37.unet_name"
        ),
        "video@78 image@74?",
    ),
    "video_wan_vace_14B_v2v": (
        (
            "prompt=text@6.text negative_prompt=text@7.text image=image@134.image "
            "video=video@145.file seed=seed@3.seed steps=integer@3.steps cfg=float@3.cfg "
            "denoise=float@3.denoise width=integer@49.width height=integer@49.height "
            "batch_size=integer@49.batch_size length=integer@49.length fps=float@68.fps "
            "sampler=choice@3.sampler_name scheduler=choice@3.scheduler model=text@106.unet_name "
            "lora=text@107.lora_name"
        ),
        "video@114",
    ),
    # audio
    "audio_ace_step_1_t2a_song": (
        (
            "lyrics=text@14.lyrics tags=text@14.tags seed=seed@52.seed steps=integer@52.steps "
            "cfg=float@52.cfg denoise=float@52.denoise batch_size=integer@17.batch_size "
            "sampler=choice@52.sampler_name scheduler=choice@52.scheduler "
            "checkpoint=choice@40.ckpt_name"
        ),
        "audio@75",
    ),
    "audio_stable_audio_example": (
        (
            "prompt=text@6.text negative_prompt=text@7.text seed=seed@3.seed "
            "steps=integer@3.steps cfg=float@3.cfg denoise=float@3.denoise "
            "batch_size=integer@11.batch_size sampler=choice@3.sampler_name "
            "scheduler=choice@3.scheduler checkpoint=choice@4.ckpt_name"
        ),
        "audio@20",
    ),
    "audio_ace_step_1_m2m_editing": (
        (
            "lyrics=text@14.lyrics tags=text@14.tags audio=audio@64.audio seed=seed@52.seed "
            "steps=integer@52.steps cfg=float@52.cfg denoise=float@52.denoise "
            "sampler=choice@52.sampler_name scheduler=choice@52.scheduler "
            "checkpoint=choice@40.ckpt_name"
        ),
        "audio@74",
    ),
    "audio_minimax_music_3": (
        (
            "prompt=text@37:13.caption lyrics=text@37:13.lyrics seed=seed@37:38.seed "
            "steps=integer@37:9.steps cfg=float@37:9.cfg denoise=float@37:9.denoise "
            "batch_size=integer@37:15.batch_size sampler=choice@37:9.sampler_name "
            "scheduler=choice@37:9.scheduler model=text@37:6.unet_name"
        ),
        "audio@35",
    ),
    "audio_yue2_text2music": (
        (
            "prompt=text@33:37.value seed=seed@33:34.seed steps=integer@33:8.steps "
            "cfg=float@33:8.cfg denoise=float@33:8.denoise batch_size=integer@33:5.batch_size "
            "sampler=choice@33:8.sampler_name scheduler=choice@33:8.scheduler "
            "checkpoint=choice@33:15.ckpt_name text_empty_abc=text@33:32.value "
            "boolean_abc_planning=boolean@33:31.value text_style=text@33:36.value"
        ),
        "audio@10 text@33:14? text@33:23?",
    ),
    # 3D
    "3d_hunyuan3d_multiview_to_model": (
        (
            "image=image@56.image image_2=image@80.image seed=seed@3.seed steps=integer@3.steps "
            "cfg=float@3.cfg denoise=float@3.denoise batch_size=integer@66.batch_size "
            "sampler=choice@3.sampler_name scheduler=choice@3.scheduler "
            "checkpoint=choice@54.ckpt_name"
        ),
        "file@83",
    ),
    "3d_triposplat_image_to_gaussian_splat": (
        (
            "image=image@99.image seed=seed@88:6.seed seed_2=seed@88:55.seed "
            "steps=integer@88:6.steps cfg=float@88:6.cfg denoise=float@88:6.denoise "
            "width=integer@75.width height=integer@75.height fps=float@41.fps "
            "sampler=choice@88:6.sampler_name scheduler=choice@88:6.scheduler "
            "model=text@88:16.unet_name"
        ),
        "file@51 video@42",
    ),
    "3d_moge_perspective_to_mesh": (
        "image=image@9.image batch_size=integer@67:55.batch_size",
        "file@21 image@46? image@47?",
    ),
    "3d_hunyuan3d_multiview_to_model_turbo": (
        (
            "image=image@56.image image_2=image@82.image seed=seed@3.seed steps=integer@3.steps "
            "cfg=float@3.cfg guidance=float@78.guidance denoise=float@3.denoise "
            "batch_size=integer@66.batch_size sampler=choice@3.sampler_name "
            "scheduler=choice@3.scheduler checkpoint=choice@54.ckpt_name"
        ),
        "file@67",
    ),
    "api_hunyuan3d_model2uv": (
        (
            "image=image@13.image file=file@13.model_file seed=seed@14.seed "
            "width=integer@13.width height=integer@13.height"
        ),
        "file@15 file@17",
    ),
    # partner
    "api_bfl_flux2_max_sofa_swap": (
        (
            "prompt=text@18.prompt image=image@2.image image_2=image@3.image "
            "image_3=image@10.image seed=seed@18.seed"
        ),
        "image@6",
    ),
    "api_openai_image_1_t2i": (
        "prompt=text@17.prompt seed=seed@17.seed",
        "image@14",
    ),
    "api_google_gemini": (
        (
            "prompt=text@23.model.prompt system_prompt=text@23.model.system_prompt "
            "image=image@2.image seed=seed@23.model.seed"
        ),
        "text@20",
    ),
    "api_recraft_image_gen_with_style_control": (
        "prompt=text@3.prompt seed=seed@3.seed",
        "image@1",
    ),
    "api_elevenlabs_text_to_speech": (
        "prompt=text@208.text seed=seed@208.seed",
        "audio@218",
    ),
    "api_bfl_flux3_t2v": (
        "prompt=text@13.prompt seed=seed@13.seed",
        "video@6",
    ),
    # text
    "api_anthropic_claude": (
        (
            "prompt=text@5.prompt system_prompt=text@5.system_prompt image=image@2.image "
            "seed=seed@5.seed"
        ),
        "text@3?",
    ),
    "api_openai_chat": (
        "prompt=text@3.prompt image=image@5.image",
        "text@19",
    ),
    "llm_gemma4_text_gen": (
        (
            "prompt=text@1.prompt image=image@2.image video=video@6.file audio=audio@5.audio "
            "seed=seed@1.sampling_mode.seed"
        ),
        "text@4?",
    ),
    "llm_qwen3_text_gen": (
        "prompt=text@7.prompt seed=seed@7.sampling_mode.seed",
        "text@5?",
    ),
    "llm_qwen3_5_text_gen": (
        "prompt=text@3.prompt image=image@2.image seed=seed@3.sampling_mode.seed",
        "text@4?",
    ),
    "llm_qwen3vl_text_gen": (
        "prompt=text@6.prompt image=image@8.image seed=seed@6.sampling_mode.seed",
        "text@7?",
    ),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_has_the_inputs_and_outputs_that_one_would_give_it(name: str) -> None:
    data = json.dumps(comparison.load("templates-0.1.123")[name]).encode()
    found = source.read(f"{name}.json", data).build("demo", comparison.live_object_info())
    inputs, outputs = TEMPLATES[name]
    assert " ".join(f"{each.name}={each.kind}@{each.target}" for each in found.inputs) == inputs
    assert outputs == " ".join(
        f"{each.kind}@{each.node}{'?' if each.preview is True else ''}" for each in found.outputs
    )
