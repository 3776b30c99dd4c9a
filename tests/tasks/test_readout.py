"""Units that are no channels: each activation against a loop over positions, blocks against the whole, every format."""

from __future__ import annotations

import json
import math

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from baselines.evidence import dead_units, order_among_ties, tied_images
from tasks.activations.maps import MemoryMaps
from tasks.activations.readout import Readout
from tasks.activations.sparse import SparseColumns, sparse_rows
from tasks.common.errors import UserError
from tasks.models.dictionaries import read_readout, save_dictionary, settings_of
from tasks.models.preprocessing import Preprocessing
from tasks.models.target import TargetModel
from tasks.observe import CLEAN, Probe, late_top_maps, observe

WIDTH, LATENTS = 6, 10
CPU = torch.device("cpu")


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def parts(seed=0):
    return {
        "encoder": drawn(LATENTS, WIDTH, seed=seed),
        "bias": drawn(LATENTS, seed=seed + 1) / 3,
        "decoder": drawn(LATENTS, WIDTH, seed=seed + 2),
    }


HOW = {
    "identity": {},
    "relu": {},
    "topk": {"k": 3},
    "jumprelu": {"threshold": drawn(LATENTS, seed=7)},
    "batchtopk": {"threshold": torch.full((LATENTS,), 0.4)},
}


def looped(readout, x):
    """One position after another, one latent after another, as the papers define it."""
    scaled = x.double()
    if readout.scaling == "layer_norm":
        scaled = (scaled - scaled.mean()) / (scaled.std() + 1e-5)
    if readout.scaling == "constant_norm":
        scaled = scaled / scaled.norm() * math.sqrt(len(x))
    if readout.centre is not None:
        scaled = scaled - readout.centre.double()
    codes = [float(row.double() @ scaled + b) for row, b in zip(readout.encoder, readout.bias.double(), strict=True)]
    largest = sorted(codes, reverse=True)[: readout.k or 0]
    found = []
    for latent, code in enumerate(codes):
        kept = {
            "identity": code,
            "relu": max(code, 0.0),
            "topk": max(code, 0.0) if code in largest else 0.0,
            "jumprelu": code
            if readout.threshold is not None and code > max(float(readout.threshold[latent]), 0)
            else 0.0,
            "batchtopk": code if readout.threshold is not None and code >= float(readout.threshold[latent]) else 0.0,
        }[readout.activation]
        found.append(kept)
    return torch.tensor(found)


@pytest.mark.parametrize("scaling", ["none", "layer_norm", "constant_norm"])
@pytest.mark.parametrize("activation", list(HOW))
@pytest.mark.parametrize("shape", [(2, WIDTH, 3, 3), (2, 5, WIDTH), (4, WIDTH)])
def test_each_activation_at_each_position_is_that_of_a_plain_loop(activation, shape, scaling):
    centre = drawn(WIDTH, seed=9) if scaling != "none" else None
    readout = Readout("x", **parts(), activation=activation, scaling=scaling, centre=centre, **HOW[activation])
    output = drawn(*shape, seed=3)
    flat = output.movedim(1, -1) if len(shape) == 4 else output
    expected = torch.stack([looped(readout, x) for x in flat.reshape(-1, WIDTH)]).reshape(*flat.shape[:-1], LATENTS)
    found = readout(output)
    torch.testing.assert_close(
        found.movedim(1, -1) if len(shape) == 4 else found, expected.float(), rtol=1e-4, atol=1e-5
    )


class Patches(nn.Module):
    """Like timm's: a CLS token before the patches."""

    num_prefix_tokens = 1

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, WIDTH, 8, stride=8)
        self.tokens = nn.Identity()

    def forward(self, images):
        tokens = self.conv(images).flatten(2).transpose(1, 2)
        return self.tokens(torch.cat([tokens.mean(1, keepdim=True), tokens], 1))


def target(layer="conv", activation="topk"):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Patches()
    readout = layer and Readout(layer, **parts(), activation=activation, **HOW[activation])
    return TargetModel(network, Preprocessing(32, None, (0.5,) * 3, (0.25,) * 3), CPU, readout=readout or None)


IMAGES = (drawn(21, 3, 32, 32).clamp(-2, 2) * 60 + 127).to(torch.uint8)


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("layer", ["conv", "tokens"])
def test_positions_are_encoded_before_they_are_pooled(layer, pooling):
    plain = target(None).read(IMAGES, {layer: pooling}, [layer])[layer]
    read = target(layer).read(IMAGES, {layer: pooling}, [layer])[layer]
    with torch.no_grad():
        images = target(None).preprocessing(IMAGES)
        output = target(None).network.conv(images)
        codes = target(layer).readout(output)
    assert read.kind == plain.kind == ("spatial" if layer == "conv" else "tokens")
    pooled = codes.flatten(2).mean(2) if pooling == "mean" else codes.flatten(2).amax(2)
    torch.testing.assert_close(read.pooled, pooled, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(read.maps.float(), codes, rtol=1e-2, atol=1e-2)
    assert torch.equal(read.maps.float().amax((2, 3)) > 0, read.pooled > 0)


def test_cls_reads_the_latents_of_the_first_token():
    model = target("tokens")
    with torch.no_grad():
        tokens = model.network(model.preprocessing(IMAGES))
    read = model.read(IMAGES, {"tokens": "cls"})["tokens"].pooled
    torch.testing.assert_close(read, model.readout.encode(tokens[:, 0]), rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match="needs a layer of tokens"):
        target("conv").read(IMAGES, {"conv": "cls"})


@pytest.mark.parametrize("activation", list(HOW))
def test_a_block_of_units_and_of_images_is_that_of_the_whole_to_the_byte(activation, monkeypatch):
    whole = target("conv", activation).read(IMAGES, {"conv": "mean"}, ["conv"])["conv"]
    some = target("conv", activation).read(IMAGES, {"conv": "mean"}, {"conv": [7, 2]})["conv"]
    assert torch.equal(some.maps, whole.maps[:, [7, 2]])
    assert torch.equal(some.pooled, whole.pooled)
    first = target("conv", activation).read(IMAGES[:5], {"conv": "mean"}, ["conv"])["conv"]
    assert torch.equal(first.pooled, whole.pooled[:5])
    monkeypatch.setattr("tasks.activations.readout._VALUES_AT_ONCE", 100)
    blocks = target("conv", activation).read(IMAGES, {"conv": "mean"}, ["conv"])["conv"]
    torch.testing.assert_close(blocks.pooled, whole.pooled)


def test_without_images_there_are_units_nevertheless():
    read = target().read(IMAGES[:0], {"conv": "mean"}, ["conv"])["conv"]
    assert (read.pooled.shape, read.maps.shape) == ((0, LATENTS), (0, LATENTS, 4, 4))


def test_other_layers_and_networks_without_a_readout_keep_their_channels():
    plain, read = (target(layer).read(IMAGES, {"tokens": "mean"})["tokens"] for layer in (None, "conv"))
    assert torch.equal(plain.pooled, read.pooled)


class Encoder:
    def encode_images(self, images):
        return images.flatten(1)[:, :4].float()


def seen(activation="topk", **options):
    ids = tuple(f"i{number}" for number in range(len(IMAGES)))
    load = lambda indices: IMAGES[list(indices)]  # noqa: E731
    return observe(target("conv", activation), {"conv": "mean"}, Probe(ids, load), CLEAN, load, Encoder(), **options)[
        "conv"
    ]


def test_a_pass_keeps_what_is_not_zero_and_answers_as_a_tensor_would():
    found, dense = seen(batch=4), target("conv").read(IMAGES, {"conv": "mean"})["conv"].pooled
    columns = found.activations
    assert isinstance(columns, SparseColumns)
    assert columns.shape == dense.shape
    assert len(columns) == len(dense)
    torch.testing.assert_close(columns.to_dense(), dense)
    same = SparseColumns.stacked([sparse_rows(dense[:9]), sparse_rows(dense[9:])])
    for index in (3, [3, 1], torch.tensor([1, 8, 8]), slice(2, 5), torch.arange(LATENTS) > 6):
        assert torch.equal(same[:, index], dense[:, index])
        assert torch.equal(same[[4, 0, 4], index], dense[[4, 0, 4]][:, index])
    assert torch.equal(same[[5, 2, 5]].to_dense(), dense[[5, 2, 5]])
    assert torch.equal(torch.cat(list(same.split(3)), 1), dense)
    assert torch.equal(dead_units(same), dead_units(dense))
    torch.testing.assert_close(torch.from_numpy(same.image_sums()), dense.double().sum(1))
    assert same.shares().tolist() == [float(share) for share in (dense != 0).double().mean(0)]
    assert torch.equal(tied_images(same[:, [0, 1]], 3), tied_images(dense[:, [0, 1]], 3))
    assert torch.equal(SparseColumns.restored(same.tensors()).to_dense(), dense)
    assert torch.equal(same.float().mean(dim=0), dense.mean(dim=0))  # whatever else, of the dense tensor
    assert order_among_ties(same).shape == (len(IMAGES),)


def test_dead_and_unusable_latents_are_found_without_the_zeros():
    dense = drawn(8, 5).relu()
    dense[:, 1], dense[:, 2], dense[3, 4] = 0, 1.5, torch.nan
    columns = SparseColumns.stacked([sparse_rows(dense)])
    assert dead_units(columns).tolist() == dead_units(dense).tolist() == [False, True, True, False, True]


def test_what_would_not_fit_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr("tasks.activations.sparse._LARGEST", 10)
    with pytest.raises(UserError, match="all 5 latents on all 8 images"):
        SparseColumns.stacked([sparse_rows(drawn(8, 5))]).float()


def test_maps_of_top_images_restored_from_pooled_activations_are_those_of_the_pass():
    found = seen(maps={"conv": [7, 2]}, mapped=4)
    load = lambda indices: IMAGES[list(indices)]  # noqa: E731
    again = late_top_maps(target("conv"), "conv", [7, 2], found.maps.shape, load, 4, found.activations)
    assert torch.equal(again.images, found.maps.images)
    assert torch.equal(again.maps, found.maps.maps)


def test_directions_are_signed_and_dense():
    found = seen("identity")
    assert isinstance(found.activations, torch.Tensor)
    assert float(found.activations.min()) < 0


def test_a_layer_of_another_width_is_refused():
    with pytest.raises(UserError, match=r"for a layer of 6 units, but conv has 3"):
        Readout("conv", **parts())(torch.zeros(1, 3, 2, 2))


# ---- files ----


def stored(tmp_path, tensors, config=None, name="sae.safetensors", beside="config.json"):
    path = tmp_path / name
    save_file({key: tensor.clone().contiguous() for key, tensor in tensors.items()}, path)
    if config is not None:
        text = json.dumps(config) if beside.endswith(".json") else yaml.safe_dump(config)
        (tmp_path / beside).write_text(text)
    return path


def codes(path, x, kind="dictionary"):
    return read_readout(kind, path, "layer", settings_of(path)).encode(x)


X = drawn(20, WIDTH, seed=5) + 0.3


def w_names(own):
    return {
        "W_enc": own["encoder"].T,
        "b_enc": own["bias"],
        "W_dec": own["decoder"],
        "b_dec": drawn(WIDTH, seed=4),
    }


def top(values, k):
    return torch.where(values >= values.topk(k, dim=-1).values[..., -1:], values, 0)


def test_clears_own_format_states_everything_itself(tmp_path):
    save_dictionary(tmp_path / "sae.safetensors", parts(), {"activation": "topk", "k": 2})
    found = codes(tmp_path / "sae.safetensors", X)
    assert (found > 0).sum(1).max() == 2
    half = {name: tensor.half().float() for name, tensor in parts().items()}
    torch.testing.assert_close(found, top((X @ half["encoder"].T + half["bias"]).relu(), 2))


def test_sae_lens(tmp_path):
    own = parts()
    names = w_names(own)
    config = {"architecture": "topk", "k": 4, "d_in": WIDTH, "d_sae": LATENTS, "apply_b_dec_to_input": True,
              "rescale_acts_by_decoder_norm": True, "normalize_activations": "none"}  # fmt: skip
    path = stored(tmp_path, names, config, beside="cfg.json")
    plain = ((X - names["b_dec"]) @ names["W_enc"] + names["b_enc"]) * own["decoder"].norm(dim=1)
    torch.testing.assert_close(codes(path, X), top(plain, 4).relu())


def test_sae_lens_jumprelu_and_an_older_configuration(tmp_path):
    own, threshold = parts(), drawn(LATENTS, seed=8).abs()
    names = w_names(own)
    path = stored(
        tmp_path, {**names, "threshold": threshold}, {"architecture": "jumprelu", "normalize_activations": "layer_norm"}
    )
    scaled = (X - X.mean(1, keepdim=True)) / (X.std(1, keepdim=True) + 1e-5)
    plain = (scaled - names["b_dec"]) @ names["W_enc"] + names["b_enc"]
    torch.testing.assert_close(codes(path, X), torch.where(plain > threshold, plain, 0))
    (tmp_path / "config.json").unlink()
    stored(tmp_path, names, {"activation_fn": "relu", "architecture": "standard"}, beside="cfg.json")
    torch.testing.assert_close(codes(path, X), ((X - names["b_dec"]) @ names["W_enc"] + names["b_enc"]).relu())


def test_vit_prisma(tmp_path):
    names = w_names(parts())
    torch.save(names, tmp_path / "weights.pt")
    config = {"architecture": "standard", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}, "d_in": WIDTH}
    (tmp_path / "config.json").write_text(json.dumps(config))
    plain = (X - names["b_dec"]) @ names["W_enc"] + names["b_enc"]
    torch.testing.assert_close(codes(tmp_path / "weights.pt", X), top(plain, 3).relu())


@pytest.mark.parametrize("cls", ["Relu", "TopK", "BatchTopK"])
def test_saev(tmp_path, cls):
    names, path = w_names(parts()), tmp_path / "sae.pt"
    params = {} if cls == "Relu" else {"top_k": 9}
    header = {
        "schema": 2,
        "cfg": {"d_vit": WIDTH, "exp_factor": 2, "activation": {"cls": cls, "params": params}},
        "lib": "0",
    }
    with path.open("wb") as file:
        file.write((json.dumps(header) + "\n").encode())
        torch.save(names, file)
    plain = X @ names["W_enc"] + names["b_enc"]
    # Nine of ten, so that negative ones are among them: saev keeps these.
    torch.testing.assert_close(codes(path, X), plain.relu() if cls == "Relu" else top(plain, 9))


def test_overcomplete(tmp_path):
    own, block = parts(), "encoder.final_block"
    norm = {"weight": drawn(LATENTS, seed=11), "bias": drawn(LATENTS, seed=12), "running_mean": drawn(LATENTS, seed=13),
            "running_var": drawn(LATENTS, seed=14).abs()}  # fmt: skip
    tensors = {f"{block}.0.weight": own["encoder"], f"{block}.0.bias": own["bias"],
               "dictionary._weights": own["decoder"], **{f"{block}.1.{name}": tensor for name, tensor in norm.items()},
               f"{block}.1.num_batches_tracked": torch.tensor(3)}  # fmt: skip
    layer = nn.BatchNorm1d(LATENTS).eval()
    layer.load_state_dict(norm, strict=False)
    with torch.no_grad():
        plain = layer(X @ own["encoder"].T + own["bias"]).relu()
    path = stored(tmp_path, tensors, {"sae_type": "topk", "k": 2})
    torch.testing.assert_close(codes(path, X), top(plain, 2), rtol=1e-4, atol=1e-5)
    thresholds = drawn(LATENTS, seed=15)
    path = stored(tmp_path, {**tensors, "thresholds": thresholds}, {"sae_type": "jumprelu"})
    torch.testing.assert_close(codes(path, X), torch.where(plain > thresholds.exp(), plain, 0), rtol=1e-4, atol=1e-5)


def test_visaebench(tmp_path):
    own = parts()
    tensors = {"encoder.weight": own["encoder"], "encoder.bias": own["bias"], "decoder.weight": own["decoder"],
               "decoder.bias": drawn(WIDTH)}  # fmt: skip
    plain = (X @ own["encoder"].T + own["bias"]).relu()
    path = stored(tmp_path, tensors, {"activation": "batchtopk", "k": 4, "threshold": 0.7}, beside="config.yaml")
    torch.testing.assert_close(codes(path, X), torch.where(plain >= 0.7, plain, 0))
    path = stored(
        tmp_path,
        {**tensors, "_running_threshold": torch.tensor(0.5)},
        {"activation": "batchtopk"},
        beside="config.yaml",
    )
    torch.testing.assert_close(codes(path, X), torch.where(plain >= 0.5, plain, 0))
    path = stored(
        tmp_path,
        {**tensors, "jump_thresholds": torch.full((LATENTS,), 0.2)},
        {"activation": "jumprelu"},
        beside="config.yaml",
    )
    torch.testing.assert_close(codes(path, X), torch.where(plain > 0.2, plain, 0))


def test_directions_need_no_configuration(tmp_path):
    probes = drawn(4, WIDTH)
    torch.testing.assert_close(codes(stored(tmp_path, {"cavs": probes}), X, "directions"), X @ probes.T)
    path = stored(tmp_path, {"coef": probes, "intercept": torch.ones(4)})
    torch.testing.assert_close(codes(path, X, "directions"), X @ probes.T + 1)


NAN = parts()["encoder"].clone()
NAN[1, 1] = torch.nan


@pytest.mark.parametrize(
    ("tensors", "config", "said"),
    [
        ({"weight": NAN}, None, "is no dictionary that CLEAR knows: it holds weight"),
        (parts(), None, "does not state its activation"),
        (parts(), {"activation": "topk"}, "states k = None"),
        (parts(), {"activation": "topk", "k": 11}, "TopK dictionary of 10 latents, but states k = 11"),
        (parts(), {"activation": "batchtopk", "k": 3}, "without a threshold"),
        (parts(), {"activation": "swish"}, "states the activation 'swish'; CLEAR has relu"),
        (w_names(parts()), {"architecture": "gated"}, "states the activation 'gated'"),
        ({**w_names(parts()), "b_gate": NAN[0]}, {"architecture": "standard"}, "holds b_gate beside W_enc"),
        ({**parts(), "encoder": NAN}, {"activation": "relu"}, "the encoder holds a value that is not finite"),
        ({**parts(), "bias": NAN[0]}, {"activation": "relu"}, r"the bias is \[6\], but an encoder of 10 latents"),
        ({**parts(), "decoder": NAN.T}, {"activation": "relu"}, r"decoder"),
        ({"encoder": NAN[0], "bias": NAN[0]}, {"activation": "relu"}, r"encoder is \[6\], not a matrix"),
        ({"encoder": NAN}, {"activation": "relu"}, "lacks bias"),
        (w_names(parts()), {"activation_fn": "relu", "normalize_activations": "expected_average_only_in"}, "fold it"),
    ],
)  # fmt: skip
def test_a_wrong_dictionary_gets_one_clear_sentence(tmp_path, tensors, config, said):
    path = stored(tmp_path, tensors, config)
    with pytest.raises(UserError, match=said) as caught:
        codes(path, X)
    assert "\n" not in str(caught.value)


def test_a_pickle_that_holds_more_than_tensors_is_not_read(tmp_path):
    torch.save({"cfg": Patches, "state_dict": w_names(parts())}, tmp_path / "sae.pt")
    with pytest.raises(UserError, match="reading it could run code"):
        read_readout("dictionary", tmp_path / "sae.pt", "layer")


@pytest.mark.parametrize(
    "tensors", [{"a": NAN, "b": NAN}, {"a": NAN[0]}, {"a": drawn(3, WIDTH), "b": NAN[0], "c": NAN[0]}]
)
def test_wrong_directions_get_one_clear_sentence(tmp_path, tensors):
    with pytest.raises(UserError):
        read_readout("directions", stored(tmp_path, tensors), "layer")


def test_the_maps_of_a_vector_layer_are_those_of_its_units():
    assert MemoryMaps(drawn(4, 2)[:, :, None, None], [5, 1], 9).shape == (4, 9, 1, 1)
