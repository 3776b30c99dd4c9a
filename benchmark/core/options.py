"""The options of a run: identity (a different value may change the result), runtime (it must not), and places.

Each is declared once, as a field of ``RunOptions``: the command line, ``IDENTITY``, ``PLACES`` and ``RUNTIME`` are
derived.

A place is a user's file or folder: its content is part of the identity, its path is not. Stores and caches use the
identity only, so a run can continue on another device, with another batch size, in more processes, and with its files
moved.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, model_validator

from baselines import registry
from leaderboard.store.analysis_schema import STUDIES
from leaderboard.store.identity import as_json, identity_hash, safe_name
from tasks.perturbations.settings import Corruptions, Feather, Lengths, Settings
from tasks.schema import Pooling

Scalar = bool | int | float | str | None

T = TypeVar("T")


class Kind(Enum):
    """Role of a field of ``RunOptions``."""

    IDENTITY = "a different value may change a result"
    LATER = "likewise, but in the identity only if given, so that runs older than the option can be continued"
    PLACE = "a user's file or folder: the runner adds the hash of its content to the identity"
    RUNTIME = "it must not change a cell's result; faithfulness, analyses and thumbnails are tables beside the cells"


Identity = Annotated[T, Kind.IDENTITY]
Later = Annotated[T, Kind.LATER]
Place = Annotated[T, Kind.PLACE]
Runtime = Annotated[T, Kind.RUNTIME]


@dataclass(frozen=True)
class Flag:
    """The field's name on the command line, if it differs.

    Attributes:
        name: Including its hyphens.
    """

    name: str


def _known_studies(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in STUDIES:
            raise ValueError(f"there is no study {name!r}: choose {', '.join(STUDIES)}")
    return names


def _distinct(value: object) -> object:
    """The same values without duplicates, in the given order; one text is a list of one."""
    if isinstance(value, str):
        return (value,)
    return tuple(dict.fromkeys(value)) if isinstance(value, list | tuple) else value


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise ValueError(f"must be auto, cpu, mps, cuda or cuda:NUMBER, not {value!r}")
    return value


def _ray_address(value: str) -> str:
    if "://" in value:
        raise ValueError(f"is the address of a cluster, auto or HOST:PORT, not {value!r}: Ray Client is not supported")
    return value


def _expanded(value: Path) -> Path:
    return value.expanduser()


Device = Annotated[str, AfterValidator(_device)]
Seed = Annotated[StrictInt, Field(ge=0, lt=2**63)]
UserPath = Annotated[Path, AfterValidator(_expanded)]
Names = Annotated[tuple[str, ...], BeforeValidator(_distinct), Field(min_length=1)]
Severity = Annotated[StrictInt, Field(ge=1, le=5)]
Unit = Annotated[StrictInt, Field(ge=0)]
Count = Annotated[StrictInt, Field(ge=1)]
Limit = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class RunOptions(BaseModel):
    """The options of ``python -m benchmark run``. ``None`` means the default of the task (or the registry).

    Each field with a description is a command-line option, in this order, with the description as its help; the others
    belong to the option before them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tasks: Identity[Annotated[Names, Flag("--task")]] = Field(description="Task or YAML file; repeat it or use commas.")
    methods: Identity[Names | None] = Field(
        default=None, description="Methods. [default: the published ones and the trivial baselines]"
    )
    suites: Identity[Names | None] = Field(
        default=None, description="Suites, perturbations or YAML files. [default: the task's]"
    )
    severities: Identity[Annotated[tuple[Severity, ...], BeforeValidator(_distinct), Field(min_length=1)] | None] = (
        Field(default=None, description="Severities 1 to 5. [default: the task's]")
    )
    units: Identity[Count | Literal["all"] | None] = Field(
        default=None, description="Number of units, or all. [default: the task's]"
    )
    unit_ids: Identity[Annotated[tuple[Unit, ...], BeforeValidator(_distinct), Field(min_length=1)] | None] = Field(
        default=None, description="Unit indices instead, from 0."
    )
    repeats: Identity[Annotated[StrictInt, Field(ge=1, le=100)]] = Field(
        default=2, description="Runs of the clean condition; two or more give the noise floor."
    )
    model: Later[str | None] = Field(
        default=None, description="Your network: timm:NAME, torchvision:NAME or package.module:factory."
    )
    weights: Place[UserPath | None] = Field(
        default=None, description="Its weights. [default: the published ones, or the factory's]"
    )
    strip_prefix: Later[str | None] = Field(
        default=None, description="Prefix to cut from the parameter names in --weights, e.g. module."
    )
    layer: Later[Annotated[str, Field(min_length=1)] | None] = Field(
        default=None, description="Dotted name of the layer, or of several with commas. [default: the task's]"
    )
    pooling: Later[Pooling | None] = Field(
        default=None,
        description="Pooling: mean or max over positions (patches), or the cls token. [default: the task's]",
    )
    dictionary: Place[UserPath | None] = Field(
        default=None, description="A sparse autoencoder of the layer: its latents are the units."
    )
    directions: Place[UserPath | None] = Field(
        default=None, description="A matrix of directions of the layer, such as probes: they are the units."
    )
    images: Identity[Annotated[StrictInt, Field(ge=2)] | None] = Field(
        default=None, description="Number of probing images, or a folder of your own. [default: the task's]"
    )
    image_folder: Place[UserPath | None] = None
    """The user's images instead of the task's; if fewer than the task requests, all are used."""
    concepts: Place[UserPath | None] = Field(
        default=None, description="Your concepts, one per line. [default: the task's]"
    )
    profile: Identity[str] = Field(
        default="miniature", description="miniature, photo, open, modern, paper, or a YAML file."
    )
    seed: Identity[Seed] = Field(default=0, description="Random seed of the run.")
    method_options: Identity[Annotated[dict[str, dict[str, Scalar]], Flag("--set")]] = Field(
        default_factory=dict, description="Method option, METHOD.OPTION=VALUE."
    )
    """Method → option → value."""
    masks: Identity[Literal["probing_set", "segmenter"]] = Field(
        default="probing_set", description="Source of foreground masks: the probing_set or the profile's segmenter."
    )
    corruptions: Identity[Corruptions] = Field(
        default="published",
        description="Corruption implementation: published (as ImageNet-C), package (as imagecorruptions), repaired "
        "(their faults fixed), or reference (imagecorruptions itself).",
    )
    """See ``tasks.perturbations.settings``."""
    lengths: Identity[Lengths] = Field(
        default="scaled", description="Lengths scaled with the image size, or raw pixels."
    )
    feather: Identity[Feather] = Field(default=0.0, description="Width in pixels of the soft mask edge.")
    faithfulness: Runtime[Literal["none", "clean", "all"]] = Field(
        default="clean", description="Labels whose faithfulness is measured: those on clean images, all, or none."
    )
    thumbnails: Runtime[Annotated[StrictInt, Field(ge=0, le=10)]] = Field(
        default=4, description="Thumbnails of top images to keep per unit for its page; 0 for none."
    )
    device: Runtime[Device] = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps.")
    batch_size: Runtime[Count | None] = Field(default=None, description="Images per forward pass.")
    cell_timeout: Runtime[Limit | None] = Field(
        default=None, description="Seconds a method may take for one cell. [default: no limit]"
    )
    """A cell that takes longer fails."""
    budget_usd: Runtime[Annotated[Limit | None, Flag("--budget")]] = Field(
        default=None, description="Stop before this much is spent: 5USD, 90s, 30min or 2h; repeat it."
    )
    """Maximum cost of the language model over all sessions of the run, instead of the profile's cap."""
    budget_seconds: Runtime[Limit | None] = None
    """Maximum time for this session."""
    analyses: Runtime[
        Annotated[tuple[str, ...], BeforeValidator(_distinct), AfterValidator(_known_studies), Flag("--analysis")]
    ] = Field(default=(), description=f"Additional studies: {', '.join(STUDIES)}.")
    exchange: Runtime[UserPath | None] = Field(
        default=None, description="Folder of other images for --analysis exchange. [default: the rest of the task's]"
    )
    attack_masks: Runtime[bool] = Field(
        default=False,
        description="Attack with masks: only the pixels of Network Dissection's concepts count, as published.",
    )
    against: Runtime[Annotated[str, Field(min_length=1)] | None] = Field(
        default=None,
        description="Second network for --analysis networks: weights of the same architecture, a model of the profile, "
        "or as --model, perhaps with =WEIGHTS.",
    )
    cache: Runtime[str | None] = Field(
        default=None, description="Folder of the cache shared by runs, or none. [default: see docs/cache.md]"
    )
    track: Runtime[Literal["wandb", "mlflow", "trackio"] | None] = Field(
        default=None, description="Tracker to tell of the finished run: wandb, mlflow or trackio."
    )
    out: Runtime[Path | None] = Field(default=None, description="Run folder. [default: runs/TASKS]")
    executor: Runtime[Literal["local", "ray"]] = Field(
        default="local", description="local, or ray: workers on a Ray cluster share the cells, see docs/cluster.md."
    )
    ray_address: Runtime[Annotated[str, AfterValidator(_ray_address)] | None] = Field(
        default=None, description="Ray cluster to join: auto or HOST:PORT. [default: Ray is started here]"
    )
    workers: Runtime[Count | None] = Field(
        default=None,
        description="Number of workers; plan also says how long it takes them. [default: one per GPU, or else per CPU]",
    )
    gpus_per_worker: Runtime[Limit | None] = Field(
        default=None, description="GPUs per worker, e.g. 0.5. [default: 1 where there are GPUs]"
    )
    cpus_per_worker: Runtime[Count] = Field(default=1, description="CPUs, and threads, per worker.")
    mixed_devices: Runtime[bool] = Field(
        default=False, description="Accept workers with different kinds of devices, whose last digits may differ."
    )
    lost_after: Runtime[Limit] = Field(
        default=25.0, description="Seconds after which a worker that gives no sign of life is replaced."
    )
    as_json: Runtime[Annotated[bool, Flag("--json")]] = Field(
        default=False, description="Print JSON; progress goes to standard error."
    )
    details: Runtime[bool] = Field(default=False, description="Print all tables, and all findings.")

    @model_validator(mode="after")
    def _one_choice_of_units(self) -> RunOptions:
        if self.units is not None and self.unit_ids is not None:
            raise ValueError("--units and --unit-ids cannot be given together")
        return self

    @model_validator(mode="after")
    def _weights_of_a_model(self) -> RunOptions:
        if self.weights is not None and self.model is None:
            raise ValueError("--weights needs --model, the network that they belong to")
        if self.strip_prefix is not None and self.weights is None:
            raise ValueError("--strip-prefix needs --weights, the file whose parameter names it shortens")
        return self

    @model_validator(mode="after")
    def _one_readout(self) -> RunOptions:
        if self.dictionary is not None and self.directions is not None:
            raise ValueError("--dictionary and --directions cannot be given together: run each by itself")
        return self

    @property
    def chosen_layer(self) -> bool:
        """Whether the units are not those of the task's own layer."""
        return any(one is not None for one in (self.model, self.layer, self.dictionary, self.directions))

    @model_validator(mode="after")
    def _images_of_the_exchange(self) -> RunOptions:
        if self.exchange is not None and "exchange" not in self.analyses:
            raise ValueError("--exchange needs --analysis exchange, the study that uses these images")
        return self

    @model_validator(mode="after")
    def _masks_of_the_attack(self) -> RunOptions:
        if self.attack_masks and "probing_attack" not in self.analyses:
            raise ValueError("--attack-masks needs --analysis probing_attack, the study that it changes")
        return self

    @model_validator(mode="after")
    def _second_of_two(self) -> RunOptions:
        if self.against is not None and "networks" not in self.analyses:
            raise ValueError("--against needs --analysis networks, the study that compares with this network")
        return self

    def method_names(self) -> tuple[str, ...]:
        """The methods of the run: the requested ones, or the defaults."""
        return registry.default_names() if self.methods is None else self.methods

    def perturbing(self) -> Settings:
        """The settings of all perturbations."""
        return Settings(self.corruptions, self.lengths, self.feather)

    def identity(self) -> dict[str, Any]:
        """The options that may change a result, as JSON; lists are sorted, because their order does not matter.

        Names stand for their present meaning. A store that must notice a changed task, method or profile, or changed
        user files, adds their content to this.
        """
        values = as_json(self.model_dump(include=set(IDENTITY)) | {"methods": self.method_names()})
        return {
            key: sorted(value) if isinstance(value, list) else value
            for key, value in values.items()
            if value is not None or key not in LATER
        }

    def identity_hash(self) -> str:
        """SHA-256 of the identity's canonical JSON."""
        return identity_hash(self.identity())

    def folder(self) -> Path:
        """``out``, or ``runs/TASKS``, with a short hash if any option differs from its default.

        The same command resolves to the same folder; different commands never share one.
        """
        if self.out is not None:
            return self.out
        names = safe_name("+".join(sorted(Path(task).stem for task in self.tasks)), limit=120)
        places = as_json(self.model_dump(include=set(PLACES), exclude_none=True))
        usual = RunOptions(tasks=self.tasks).identity_hash() == self.identity_hash() and not places
        # A task file's name says nothing about its location, so two with the same name must not collide.
        own = any(task != Path(task).stem for task in self.tasks)
        asked = identity_hash(self.identity() | places)
        return Path("runs") / (names if usual and not own else f"{names}-{asked[:8]}")


def _of(*kinds: Kind) -> frozenset[str]:
    return frozenset(name for name, field in RunOptions.model_fields.items() if {*kinds} & {*_kinds(field.metadata)})


def _kinds(metadata: list[Any]) -> list[Kind]:
    return [mark for mark in metadata if isinstance(mark, Kind)]


LATER = _of(Kind.LATER)
IDENTITY = _of(Kind.IDENTITY, Kind.LATER)
PLACES = _of(Kind.PLACE)
RUNTIME = _of(Kind.RUNTIME)
