"""A Model: how each family reads text, what the UNet is given, the noise schedule, and decoding at once, in tiles and when 16 bits overflow."""

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from studio.diffusion.families import SD1, SD1_INPAINT, SD2, SDXL, Family
from studio.diffusion.model import Conditioning, Model, alphas_cumprod
from studio.diffusion.mosaic import in_tiles
from studio.errors import Unreadable

CPU, START, END = torch.device("cpu"), 49406, 49407
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "epsilon", "num_train_timesteps": 1000}


def text(width: int, act: str, pooled: int = 0) -> CLIPTextModel | CLIPTextModelWithProjection:
    """A small random text encoder of three layers."""
    config = CLIPTextConfig(vocab_size=49408, hidden_size=width, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, hidden_act=act, projection_dim=pooled or width, eos_token_id=END)
    return (CLIPTextModelWithProjection if pooled else CLIPTextModel)(config).eval()


def unet(channels: int, context: int, pooled: int = 0) -> UNet2DConditionModel:
    """A small random UNet."""
    more = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": pooled + 48} if pooled else {}
    kinds = {"down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("CrossAttnUpBlock2D",), "block_out_channels": (32,), "layers_per_block": 1, "norm_num_groups": 8}
    return UNet2DConditionModel(sample_size=16, in_channels=channels, cross_attention_dim=context, attention_head_dim=8, **kinds, **more).eval()


def vae() -> AutoencoderKL:
    """A small random autoencoder, two pixels a cell."""
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=4, **kinds).eval()


def model(family: Family) -> Model:
    """A small random model of a family."""
    torch.manual_seed(1)
    if len(family.text_encoders) == 2:
        texts = (text(16, "quick_gelu"), text(32, "gelu", pooled=24))
        net = unet(family.unet_channels, 48, pooled=24)
    else:
        texts = (text(16, "quick_gelu" if family.text_encoders[0].kind == "clip" else "gelu"),)
        net = unet(family.unet_channels, 16)
    return Model(family, "small", "", net, vae(), texts, dict(SCHEDULE), CPU, torch.float32)


@pytest.fixture(scope="module")
def one() -> Model:
    """Stable Diffusion 1."""
    return model(SD1)


@pytest.fixture(scope="module")
def two() -> Model:
    """Stable Diffusion 2."""
    return model(SD2)


@pytest.fixture(scope="module")
def xl() -> Model:
    """SDXL."""
    return model(SDXL)


def ids(*tokens: int, pad: int = END) -> Tensor:
    """A chunk [1, 77] of tokens between start and end."""
    return torch.tensor([[START, *tokens, END, *[pad] * (75 - len(tokens))]])


def test_sd1_gives_the_last_layer_and_hears_clip_skip(one: Model) -> None:
    module = one.text_encoder
    states = module(ids(320, 736), output_hidden_states=True).hidden_states
    assert torch.equal(one.encode(ids(320, 736))[0], module(ids(320, 736)).last_hidden_state)
    for skip in (2, 3):
        context, pooled = one.encode(ids(320, 736), clip_skip=skip)
        assert torch.equal(context, module.final_layer_norm(states[-skip]))
        assert pooled is None
    assert torch.equal(one.encode(ids(320, 736), clip_skip=12)[0], module.final_layer_norm(states[1]))


def test_sd2_pads_with_zero_and_does_not_hear_clip_skip(two: Model) -> None:
    wanted = two.text_encoder(ids(320, 736, pad=0)).last_hidden_state
    assert torch.equal(two.encode(ids(320, 736))[0], wanted)
    assert torch.equal(two.encode(ids(320, 736), clip_skip=2)[0], wanted)
    assert not torch.equal(two.text_encoder(ids(320, 736)).last_hidden_state, wanted)


def test_sdxl_joins_both_penultimate_layers_without_a_norm_and_pools_the_second(xl: Model) -> None:
    first, second = xl.text_encoders
    wanted = second(ids(320, 736, pad=0), output_hidden_states=True)
    joined = torch.cat([first(ids(320, 736), output_hidden_states=True).hidden_states[-2], wanted.hidden_states[-2]], -1)
    for skip in (1, 2, 5):
        context, pooled = xl.encode(ids(320, 736), clip_skip=skip)
        assert torch.equal(context, joined)
        assert torch.equal(pooled, wanted.text_embeds)


@pytest.mark.parametrize("family", [SD1, SD2, SDXL], ids=lambda family: family.name)
def test_words_made_of_a_tokens_own_vectors_read_like_the_token(family: Family) -> None:
    m = model(family)
    rows = torch.cat([e.get_input_embeddings().weight[[736, 901]] for e in m.text_encoders], 1)
    assert rows.shape == (2, m.width)
    plain, spoken = m.encode(ids(320, 901, 7, 736)), m.encode(ids(320, 49409, 7, 49408), rows)
    assert torch.allclose(plain[0], spoken[0], atol=1e-6)
    assert (plain[1] is None) == (spoken[1] is None)
    assert plain[1] is None or torch.allclose(plain[1], spoken[1], atol=1e-6)


def test_gradients_flow_into_both_halves_of_a_word_and_nowhere_else(xl: Model) -> None:
    word = torch.randn(3, xl.width, requires_grad=True)
    context, pooled = xl.encode(ids(320, 49408, 49410), word)
    (context.square().mean() + pooled.square().mean()).backward()
    used = word.grad[[0, 2]]
    assert bool((used[:, :16] != 0).any())
    assert bool((used[:, 16:] != 0).any())
    assert not bool(word.grad[1].any())
    assert all(p.grad is None for e in xl.text_encoders for p in e.parameters())


def test_no_hook_is_left_on_an_encoder(xl: Model) -> None:
    xl.encode(ids(49408), torch.randn(1, xl.width))
    assert not any(e.get_input_embeddings()._forward_hooks for e in xl.text_encoders)


def test_sizes_are_given_in_sdxls_order_and_to_it_alone(xl: Model, one: Model) -> None:
    assert xl.micro_conditions((768, 512)).tolist() == [[512, 768, 0, 0, 512, 768]]
    assert one.micro_conditions((768, 512)) is None


def test_one_conditioning_serves_a_batch_and_pooled_text_matters(xl: Model) -> None:
    context, pooled = xl.encode(ids(320))
    x, t = torch.randn(3, 4, 8, 8), torch.tensor([500])
    conditioning = Conditioning(context, (), pooled, xl.micro_conditions((64, 64)))
    added = {"text_embeds": pooled.expand(3, -1), "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]]).expand(3, -1)}
    assert torch.allclose(xl.predict(x, t, conditioning), xl.unet(x, t, context.expand(3, -1, -1), added_cond_kwargs=added).sample, atol=1e-6)
    assert not torch.allclose(xl.predict(x, t, conditioning), xl.predict(x, t, Conditioning(context, (), -pooled, conditioning.sizes)), atol=1e-6)


def test_mask_and_masked_picture_go_beside_the_latents() -> None:
    m = model(SD1_INPAINT)
    x, extra, context = torch.randn(2, 4, 8, 8), torch.randn(1, 5, 8, 8), torch.randn(1, 77, 16)
    wanted = m.unet(torch.cat([x, extra.expand(2, -1, -1, -1)], 1), torch.tensor(9), context.expand(2, -1, -1)).sample
    assert torch.equal(m.predict(x, torch.tensor(9), Conditioning(context), extra), wanted)


@pytest.mark.parametrize("kind", ["scaled_linear", "linear"])
def test_the_noise_schedule_is_diffusers_own(kind: str) -> None:
    wanted = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule=kind, num_train_timesteps=1000).alphas_cumprod
    assert torch.allclose(alphas_cumprod({**SCHEDULE, "beta_schedule": kind}), wanted, atol=1e-6)


def test_trained_betas_are_taken_as_they_are() -> None:
    betas = [0.1, 0.2, 0.5]
    assert alphas_cumprod({**SCHEDULE, "trained_betas": betas}).tolist() == pytest.approx([0.9, 0.72, 0.36])


def test_zero_terminal_snr_leaves_nothing_but_a_finite_sigma_at_the_end() -> None:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    wanted = torch.cumprod(1 - rescale_zero_terminal_snr(betas), 0)
    found = alphas_cumprod({**SCHEDULE, "rescale_betas_zero_snr": True})
    assert torch.allclose(found[:-1], wanted[:-1], atol=1e-5)
    assert 0 < found[-1].item() < 1e-7


def nearest(z: Tensor) -> Tensor:
    """A decoder that knows no surroundings: each cell becomes a square of 8 pixels in three colours."""
    return z[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (16, 100), (33, 17), (8, 8), (65, 16)])
@pytest.mark.parametrize("tile", [8, 16, 20, 64])
def test_tiles_cover_every_cell_and_blend_without_a_seam(height: int, width: int, tile: int) -> None:
    z = torch.randn(2, 4, height, width)
    assert torch.allclose(in_tiles(z, nearest, tile, tile // 4, 8), nearest(z), atol=1e-5)


def test_no_tile_is_larger_than_asked() -> None:
    seen: list[tuple[int, ...]] = []

    def watch(z: Tensor) -> Tensor:
        seen.append(tuple(z.shape[-2:]))
        return nearest(z)

    in_tiles(torch.zeros(1, 4, 40, 70), watch, 16, 4, 8)
    assert max(max(shape) for shape in seen) == 16
    assert len(seen) > 4


def test_a_picture_decoded_in_tiles_is_near_the_one_decoded_at_once(one: Model) -> None:
    z = torch.randn(1, 4, 24, 40) * 0.18215
    whole, tiled = one.decode(z), one.decode(z, tile=16)
    assert tiled.shape == whole.shape == (1, 3, 48, 80)
    assert (whole - tiled).abs().mean() < 0.2 * whole.std()
    assert torch.equal(one.decode(z, tile=64), whole)


def test_an_autoencoder_that_overflows_in_16_bits_goes_on_in_32() -> None:
    m = model(SDXL)
    m.vae.decoder.conv_in.weight.mul_(1e4)
    m.vae.post_quant_conv.weight.mul_(1e4)
    z = torch.randn(1, 4, 8, 8) * 0.13025
    wanted = m.decode(z)
    m.vae.to(torch.float16)
    assert torch.allclose(m.decode(z), wanted, atol=0.05)
    assert m.vae.dtype == torch.float32


def test_encoding_that_overflows_in_16_bits_goes_on_in_32() -> None:
    m = model(SDXL)
    m.vae.encoder.conv_in.weight.mul_(1e5)
    m.vae.to(torch.float16)
    mean, std = m.encode_images(torch.rand(1, 3, 16, 16))
    assert bool(torch.isfinite(mean).all() and torch.isfinite(std).all())


@pytest.mark.parametrize("tile", [0, 8])
def test_numbers_that_are_not_finite_are_told_in_words(tile: int) -> None:
    m = model(SD1)
    with pytest.raises(Unreadable, match="not finite"):
        m.decode(torch.full((1, 4, 16, 16), float("nan")), tile)


def test_weights_are_frozen_and_widths_add_up(xl: Model) -> None:
    assert (xl.widths, xl.width, xl.scale, xl.native_size) == ((16, 32), 48, 2, 32)
    assert not any(p.requires_grad for part in (xl.unet, xl.vae, *xl.text_encoders) for p in part.parameters())
