"""The options of a run: identity (another value may give another result), runtime (it may not), and places.

A place is a file or folder of the user's: what lies there is identity, not where it lies. Stores and caches go by
identity alone, so a run can continue on another device, with another batch size, in more processes, and with its files
moved. ``test_options`` refuses a field that is not classified.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, model_validator

from baselines import registry
from leaderboard.store.identity import as_json, identity_hash, safe_name
from tasks.perturbations.settings import Corruptions, Feather, Lengths, Settings
from tasks.schema import Pooling

Analysis = Literal["sensitivity", "tuning", "robustness"]
Scalar = bool | int | float | str | None

IDENTITY: frozenset[str] = frozenset(
    {
        "tasks",
        "methods",
        "method_options",
        "suites",
        "severities",
        "units",
        "unit_ids",
        "repeats",
        "images",
        "profile",
        "seed",
        "masks",
        "corruptions",
        "lengths",
        "feather",
        "model",
        "strip_prefix",
        "layer",
        "pooling",
    }
)
"""Fields that may change a result."""

PLACES: frozenset[str] = frozenset({"weights", "image_folder", "concepts"})
"""Files and folders of the user's: the runner adds the hash of their content to the identity."""

_LATER: frozenset[str] = frozenset({"model", "strip_prefix", "layer", "pooling"})
"""Fields that an identity holds only where they are given, so that runs from before they existed can be continued."""

RUNTIME: frozenset[str] = frozenset(
    {
        "device",
        "out",
        "as_json",
        "batch_size",
        "faithfulness",
        "thumbnails",
        "cell_timeout",
        "analyses",
        "cache",
        "budget_usd",
        "budget_seconds",
    }
)
"""Fields that must not change a cell's result; faithfulness, analyses and thumbnails are tables beside the cells."""

_UNORDERED = frozenset({"tasks", "methods", "suites", "severities", "unit_ids"})


def _distinct(value: object) -> object:
    """The same values without doubles, in the order given."""
    return tuple(dict.fromkeys(value)) if isinstance(value, list | tuple) else value


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise ValueError(f"must be auto, cpu, mps, cuda or cuda:NUMBER, not {value!r}")
    return value


def _expanded(value: Path) -> Path:
    return value.expanduser()


Device = Annotated[str, AfterValidator(_device)]
Seed = Annotated[StrictInt, Field(ge=0, lt=2**63)]
Place = Annotated[Path, AfterValidator(_expanded)]
Names = Annotated[tuple[str, ...], BeforeValidator(_distinct)]
Severity = Annotated[StrictInt, Field(ge=1, le=5)]
Unit = Annotated[StrictInt, Field(ge=0)]


class RunOptions(BaseModel):
    """What ``python -m benchmark run`` was asked to do. ``None`` means: as the task (or the registry) says.

    Attributes:
        tasks: Names of tasks, or YAML files.
        methods: Names of methods; ``None`` for the default ones.
        method_options: Method → option → value, from ``--set METHOD.OPTION=VALUE``.
        suites: Names of perturbation suites or of perturbations, or YAML files.
        severities: Strengths, 1 to 5.
        units: How many units to label, or ``all``; at most one of ``units`` and ``unit_ids`` is given.
        unit_ids: Numbers of the units to label, from 0.
        repeats: How often the clean condition runs; two and more give the noise floor. Perturbed conditions run once.
        images: How many probing images.
        image_folder: Images of the user's in place of the task's; fewer than the task asks for are all taken.
        concepts: Text file with a concept a line, in place of the task's concept set.
        model: Network in place of the task's: ``timm:NAME``, ``torchvision:NAME`` or ``package.module:factory``.
        weights: Its weights; ``None`` for published ones, or those that the factory gives it.
        strip_prefix: Cut from the front of the names in that file.
        layer: Dotted name of the layer; ``None`` for the task's.
        pooling: How an output becomes one number a unit; ``None`` for the task's.
        profile: Name of a profile, or a YAML file.
        seed: Seed of the run, 0 or more.
        masks: Where foreground masks come from: the probing set's own, or the profile's segmenter
            (GrabCut if it has none).
        corruptions: ImageNet-C's as ``published``, as of the ``package`` imagecorruptions, or ``repaired``, made by
            CLEAR's engine; or by that package as ``reference``; see ``tasks.perturbations.settings``.
        lengths: Whether lengths are ``scaled`` with the image's size or ``raw`` pixels.
        feather: Pixels over which a change of foreground or background sets in.
        faithfulness: Which labels' faithfulness is measured: those given on clean images, all, or none.
        thumbnails: How many of each unit's top images are kept small for the leaderboard's pages, in every condition.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        out: Run folder; ``None`` for one that follows from the other options.
        as_json: Print JSON instead of tables.
        cell_timeout: Seconds that a method may take for one cell; a cell that takes longer has failed.
        batch_size: Images in one forward pass; ``None`` for the profile's.
        analyses: Analyses of whole layers, done after the cells.
        cache: Folder in which answers of models are kept for other runs; ``None`` for the usual one, ``none`` for none.
        budget_usd: Most that a language model may cost in all sessions of the run, in place of the profile's cap.
        budget_seconds: Most time that this session may take.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tasks: Annotated[Names, Field(min_length=1)]
    methods: Annotated[Names, Field(min_length=1)] | None = None
    method_options: dict[str, dict[str, Scalar]] = Field(default_factory=dict)
    suites: Annotated[Names, Field(min_length=1)] | None = None
    severities: Annotated[tuple[Severity, ...], BeforeValidator(_distinct), Field(min_length=1)] | None = None
    units: Annotated[StrictInt, Field(ge=1)] | Literal["all"] | None = None
    unit_ids: Annotated[tuple[Unit, ...], BeforeValidator(_distinct), Field(min_length=1)] | None = None
    repeats: Annotated[StrictInt, Field(ge=1, le=100)] = 2
    images: Annotated[StrictInt, Field(ge=2)] | None = None
    image_folder: Place | None = None
    concepts: Place | None = None
    model: str | None = None
    weights: Place | None = None
    strip_prefix: str | None = None
    layer: Annotated[str, Field(min_length=1)] | None = None
    pooling: Pooling | None = None
    profile: str = "miniature"
    seed: Seed = 0
    masks: Literal["probing_set", "segmenter"] = "probing_set"
    corruptions: Corruptions = "published"
    lengths: Lengths = "scaled"
    feather: Feather = 0.0
    faithfulness: Literal["none", "clean", "all"] = "clean"
    thumbnails: Annotated[StrictInt, Field(ge=0, le=10)] = 4
    device: Device = "auto"
    out: Path | None = None
    as_json: bool = False
    batch_size: Annotated[StrictInt, Field(ge=1)] | None = None
    cell_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    cache: str | None = None
    analyses: Annotated[tuple[Analysis, ...], BeforeValidator(_distinct)] = ()
    budget_usd: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    budget_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _one_choice_of_units(self) -> RunOptions:
        if self.units is not None and self.unit_ids is not None:
            raise ValueError("--units and --unit-ids cannot be given together")
        return self

    @model_validator(mode="after")
    def _weights_of_a_model(self) -> RunOptions:
        if self.weights is not None and self.model is None:
            raise ValueError("--weights needs --model, which says whose weights they are")
        if self.strip_prefix is not None and self.weights is None:
            raise ValueError("--strip-prefix needs --weights, the file whose names it shortens")
        return self

    def method_names(self) -> tuple[str, ...]:
        """The methods of the run: those asked for, or the default ones."""
        return registry.default_names() if self.methods is None else self.methods

    def perturbing(self) -> Settings:
        """The choices that hold for all perturbations."""
        return Settings(self.corruptions, self.lengths, self.feather)

    def identity(self) -> dict[str, Any]:
        """The options that may change a result, as JSON; lists whose order does not matter are sorted.

        Names stand for what they mean today. A store that must notice a changed task, method or profile, or what lies
        in the user's files, adds their content to this.
        """
        values = as_json(self.model_dump(include=set(IDENTITY)) | {"methods": self.method_names()})
        return {
            key: sorted(value) if key in _UNORDERED and value is not None else value
            for key, value in values.items()
            if value is not None or key not in _LATER
        }

    def identity_hash(self) -> str:
        """SHA-256 of the identity's canonical JSON."""
        return identity_hash(self.identity())

    def folder(self) -> Path:
        """``out``, or ``runs/TASKS``, with a short hash where any option differs from its default.

        The same command so finds its folder again, and another one never lands in it.
        """
        if self.out is not None:
            return self.out
        names = safe_name("+".join(sorted(Path(task).stem for task in self.tasks)), limit=120)
        places = as_json(self.model_dump(include=set(PLACES), exclude_none=True))
        usual = RunOptions(tasks=self.tasks).identity_hash() == self.identity_hash() and not places
        # A task file's name says nothing of where it lies, so two of the same name must not meet.
        own = any(task != Path(task).stem for task in self.tasks)
        asked = identity_hash(self.identity() | places)
        return Path("runs") / (names if usual and not own else f"{names}-{asked[:8]}")
