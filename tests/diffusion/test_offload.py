"""medvram and lowvram: who is on the card when, that nothing changes in what is computed, and that hooks leave no trace."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from studio.diffusion.families import SD1, SDXL, Family
from studio.diffusion.model import Conditioning, Model
from studio.diffusion.offload import Offload, bytes_of, fetch, is_out_of_memory, modules_of, with_room
from studio.errors import StudioError

CPU, CARD = torch.device("cpu"), torch.device("cuda:0")


class Recorder:
    """Stands for the way to the card: notes which networks are there, and the most bytes at once."""

    def __init__(self) -> None:
        self.there: list[Sequence[nn.Module]] = []
        self.visits = 0
        self.peak = 0

    def __call__(self, modules: Sequence[nn.Module], device: torch.device) -> Callable[[], None]:
        """Note an arrival; what is returned notes the departure."""
        self.there.append(modules)
        self.visits += 1
        self.peak = max(self.peak, sum(bytes_of(group) for group in self.there))
        return lambda: self.there.remove(modules)


@contextmanager
def visiting(model: Model, layerwise: bool, way: Callable[..., Callable[[], None]], device: torch.device = CPU) -> Iterator[Offload]:
    """The three parts of a model visiting a device."""
    offload = Offload(device, way)
    groups = {"text encoder": model.text_encoders, "UNet": (model.unet,), "VAE": (model.vae,)}
    for name, modules in groups.items():
        offload.add(name, modules, layerwise)
    try:
        yield offload
    finally:
        for modules in groups.values():
            offload.remove(modules)


@torch.no_grad()
def paint(model: Model, steps: int = 2) -> Tensor:
    """Text, a few predictions, a decode and an encode: every part in its order."""
    context, pooled = model.encode(torch.full((1, 77), 49407, device=model.device))
    conditioning = Conditioning(context, (), pooled, model.micro_conditions((16, 16)))
    x = torch.linspace(-1, 1, 4 * 16 * 16, device=model.device).reshape(1, 4, 16, 16)
    for _ in range(steps):
        x = x - 0.1 * model.predict(x, torch.tensor([500], device=model.device), conditioning).float()
    return model.encode_images(model.decode(x))[0]


def hooks(model: Model) -> int:
    """How many hooks stand before the forwards of a model."""
    return sum(len(inner._forward_pre_hooks) for part in (model.unet, model.vae, *model.text_encoders) for inner in part.modules())


@pytest.mark.parametrize("layerwise", [False, True])
def test_the_same_numbers_come_out(tiny: Model, layerwise: bool) -> None:
    wanted = paint(tiny)
    with visiting(tiny, layerwise, copying):
        assert torch.equal(paint(tiny), wanted)


def test_a_visit_that_begins_where_nothing_is_recorded_can_be_learned_from(tiny: Model) -> None:
    with visiting(tiny, False, copying) as offload:
        with torch.inference_mode():
            paint(tiny, 1)
            tiny.encode(torch.full((1, 77), 49407))
        vectors = torch.zeros(1, tiny.width, requires_grad=True)
        context, _ = tiny.encode(torch.full((1, 77), 49408), vectors)
        context.square().sum().backward()
        assert offload.visiting() == ["text encoder"]
    assert float(vectors.grad.abs().sum()) > 0
    assert not any(p.is_inference() for p in tiny.text_encoder.parameters())


def copying(modules: Sequence[nn.Module], device: torch.device) -> Callable[[], None]:
    """A visit for which tensors are truly copied, as they are to a card."""
    real = Tensor.to
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "to", lambda tensor, *wanted: real(tensor, *wanted).clone())
        return fetch(modules, device)


def test_medvram_lets_one_part_onto_the_card_at_a_time(tiny: Model) -> None:
    recorder = Recorder()
    with visiting(tiny, False, recorder) as offload:
        paint(tiny)
        assert offload.visiting() == ["VAE"]
        tiny.encode(torch.full((1, 77), 49407))
        assert "text encoder" in offload.visiting()
    sizes = [bytes_of((tiny.unet,)), bytes_of((tiny.vae,)), bytes_of(tiny.text_encoders)]
    assert recorder.peak == max(sizes)
    assert recorder.visits == 4  # text encoder, UNet, VAE, text encoder
    assert recorder.there == []


def test_lowvram_lets_one_block_onto_the_card_at_a_time(tiny: Model) -> None:
    recorder = Recorder()
    with visiting(tiny, True, recorder):
        paint(tiny)
    blocks = [*tiny.unet.down_blocks, tiny.unet.mid_block, *tiny.unet.up_blocks]
    assert recorder.peak == max(*(bytes_of((block,)) for block in blocks), bytes_of((tiny.vae,)), bytes_of(tiny.text_encoders))
    assert recorder.peak < bytes_of((tiny.unet,))
    assert recorder.visits == 1 + (1 + 2 * (len(blocks) + 1)) + 1  # the layers around stay from the end of one step to the start of the next
    assert recorder.there == []


def test_no_trace_is_left(tiny: Model) -> None:
    parts = (tiny.unet, tiny.vae, *tiny.text_encoders)
    before = {id(p): p.data_ptr() for part in parts for p in (*part.parameters(), *part.buffers())}
    count = hooks(tiny)
    with visiting(tiny, True, copying):
        assert hooks(tiny) > count
        paint(tiny, 1)
    assert hooks(tiny) == count
    assert {id(p): p.data_ptr() for part in parts for p in (*part.parameters(), *part.buffers())} == before


def test_a_part_that_two_tabs_use_visits_until_both_are_done(tiny: Model) -> None:
    count, recorder = hooks(tiny), Recorder()
    offload = Offload(CPU, recorder)
    offload.add("UNet", (tiny.unet,))
    once = hooks(tiny)
    offload.add("UNet", (tiny.unet,))
    assert hooks(tiny) == once
    offload.remove((tiny.unet,))
    assert hooks(tiny) == once
    offload.remove((tiny.unet,))
    assert hooks(tiny) == count


def test_parts_a_training_needs_on_its_way_back_stay(tiny: Model) -> None:
    recorder = Recorder()
    with visiting(tiny, False, recorder) as offload:
        paint(tiny)
        vectors = torch.zeros(1, tiny.width, requires_grad=True)
        ids = torch.full((1, 77), 49407)
        ids[0, 1] = 49408
        context, _ = tiny.encode(ids, vectors)
        assert offload.visiting() == ["text encoder"]
        answer = tiny.predict(torch.zeros(1, 4, 16, 16), torch.tensor([10]), Conditioning(context))
        assert offload.visiting() == ["text encoder", "UNet"]
        answer.float().square().mean().backward()
        assert float(vectors.grad.abs().sum()) > 0
        paint(tiny)
        assert offload.visiting() == ["VAE"]


def test_what_learned_or_was_changed_during_a_visit_is_kept(tiny_layers: nn.ModuleList) -> None:
    learns, written, recast, exchanged, still = tiny_layers
    learns.requires_grad_(True)
    waiting = still.weight.data_ptr()
    back = copying(tiny_layers, CPU)
    assert still.weight.data_ptr() != waiting
    with torch.no_grad():
        learns.weight.data.add_(1)
        written.weight.mul_(2)
    recast.to(torch.float64)
    exchanged.weight.data = torch.full((2, 2), 2.0)  # as an adapter does
    back()
    assert all(torch.equal(layer.weight, torch.full((2, 2), 2.0)) for layer in (learns, written, exchanged))
    assert recast.weight.dtype == torch.float64
    assert still.weight.data_ptr() == waiting


@pytest.fixture
def tiny_layers() -> nn.ModuleList:
    """Five layers of ones, without gradients."""
    layers = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(5)).requires_grad_(False)
    for layer in layers:
        layer.weight.fill_(1.0)
    return layers


def test_a_visit_that_does_not_fit_is_undone(tiny_layers: nn.ModuleList, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [layer.weight.data_ptr() for layer in tiny_layers]
    real, left = Tensor.to, [2]

    def full(tensor: Tensor, *wanted: object) -> Tensor:
        left[0] -= 1
        if left[0] < 0:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(tensor, *wanted).clone()

    monkeypatch.setattr(Tensor, "to", full)
    with pytest.raises(torch.OutOfMemoryError):
        fetch(tiny_layers, CARD if torch.cuda.is_available() else CPU)
    monkeypatch.undo()
    assert [layer.weight.data_ptr() for layer in tiny_layers] == before


# a card that checks: tensors without data that refuse to meet across devices


def small_model(family: Family) -> Model:
    """A model of small random parts on a card."""
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 6 * 8 + 32} if family.micro_conditions else {}
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32 * len(family.text_encoders),
        attention_head_dim=8,
        **added,
    )
    vae = AutoencoderKL(block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=8, latent_channels=4)
    config = CLIPTextConfig(vocab_size=49408, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, eos_token_id=49407, pad_token_id=49407, projection_dim=32)
    texts = tuple((CLIPTextModelWithProjection if encoder.pooled else CLIPTextModel)(config) for encoder in family.text_encoders)
    model = Model.__new__(Model)
    for name, value in {"family": family, "unet": unet, "vae": vae, "text_encoders": texts, "device": CARD, "dtype": torch.float32, "checkpoint": "small"}.items():
        setattr(model, name, value)
    for part in (unet, vae, *texts):
        part.requires_grad_(False).eval()
    return model


def carry(modules: Sequence[nn.Module], device: torch.device) -> Callable[[], None]:
    """Tensors without data cannot change their device, so each is exchanged for one on the other device."""
    kept = []
    for module in modules:
        for inner in module.modules():
            for store in (inner._parameters, inner._buffers):
                for name, tensor in store.items():
                    if tensor is not None:
                        kept.append((store, name, tensor))
                        store[name] = nn.Parameter(tensor.to(device), requires_grad=False) if isinstance(tensor, nn.Parameter) else tensor.to(device)

    def back() -> None:
        for store, name, tensor in kept:
            store[name] = tensor

    return back


@pytest.mark.parametrize("family", [SD1, SDXL], ids=lambda family: family.name)
@pytest.mark.parametrize("layerwise", [False, True])
def test_every_layer_is_on_the_card_when_it_computes(family: Family, layerwise: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "isfinite", lambda _x: SimpleNamespace(all=lambda: True))  # tensors without data have no answer
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = small_model(family)
        with pytest.raises(RuntimeError, match="same device"):
            model.encode(torch.full((1, 77), 49407, device=CARD))
        with visiting(model, layerwise, carry, CARD):
            assert paint(model, 1).device == CARD


# out of memory


class Cupboard:
    """Notes how often room was asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def make_room(self, wanted: int | None = None) -> int:
        """Count."""
        self.asked += 1
        return 0


def failing(times: int, error: Exception, answer: str = "done") -> Callable[[], str]:
    """Something that works after it failed so often."""
    left = [times]

    def attempt() -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise error
        return answer

    return attempt


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 400 bytes."),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        MemoryError(),
    ],
)
def test_room_is_made_and_the_same_is_done_again(error: Exception) -> None:
    cupboard = Cupboard()
    assert is_out_of_memory(error)
    assert with_room(cupboard, failing(1, error)) == "done"
    assert cupboard.asked == 1


def test_what_needs_less_is_done_when_room_does_not_help() -> None:
    cupboard, error = Cupboard(), torch.OutOfMemoryError("CUDA out of memory.")
    assert with_room(cupboard, failing(9, error), failing(9, error), failing(0, error, "in halves"), failing(0, error, "never")) == "in halves"
    assert cupboard.asked == 3


def test_when_nothing_helps_it_is_said_in_words_with_the_size() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 1 GiB free.")
    with pytest.raises(StudioError) as caught:
        with_room(Cupboard(), failing(9, error))
    assert "20.00 GiB" in caught.value.message
    assert "smaller picture" in caught.value.hint
    assert caught.value.code == "out_of_memory"


def test_a_real_shortage_of_the_processors_memory_is_recognised() -> None:
    with pytest.raises(StudioError, match="400000000000000"):
        with_room(Cupboard(), lambda: torch.empty(10**14))


@pytest.mark.parametrize("error", [RuntimeError("The size of tensor a must match"), ValueError("out of memory")])
def test_other_failures_pass_through(error: Exception) -> None:
    cupboard = Cupboard()
    with pytest.raises(type(error), match=str(error)):
        with_room(cupboard, failing(1, error))
    assert cupboard.asked == 0


def test_the_failed_attempts_tensors_are_gone_before_the_next() -> None:
    big: list[weakref.ref[nn.Module]] = []
    alive: list[bool] = []

    def attempt() -> None:
        held = nn.Linear(2, 2)
        big.append(weakref.ref(held))
        raise torch.OutOfMemoryError(f"CUDA out of memory while {len(held.weight)} rows were held.")

    class Looking(Cupboard):
        """Looks, when room is to be made, whether the last attempt still holds something."""

        def make_room(self, wanted: int | None = None) -> int:
            """Look."""
            alive.append(big[-1]() is not None)
            return 0

    with pytest.raises(StudioError):
        with_room(Looking(), attempt)
    assert alive == [False, False]


def test_networks_are_found_in_whatever_holds_them() -> None:
    one, two, three = (nn.Linear(2, 2) for _ in range(3))

    class Holder:
        """Holds networks in several ways."""

        def __init__(self) -> None:
            self.one, self.many, self.named, self.again, self.other = one, [two, 5], {"x": three}, one, "text"

    assert modules_of(Holder()) == (one, two, three)
    assert modules_of(one) == (one,)
    assert modules_of((one, two)) == (one, two)
    assert modules_of(7) == ()
    assert bytes_of((one, one)) == 24
