"""Settings of one server: ``--conf key value`` pairs, parsed once, frozen, no unknown keys."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from atlas8k.core.errors import SettingsError
from atlas8k.core.settings import values
from atlas8k.core.weighting import EXAMPLE

_WORDS = re.compile("[a-z0-9_:, ]{0,60}")


def _recorded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _recorded(one) for key, one in value.items()}
    if not isinstance(value, str) or _WORDS.fullmatch(value):
        return value
    return f"sha256:{hashlib.sha256(value.encode(errors='replace')).hexdigest()}"


class Settings(BaseModel):
    """All settings that ``--conf`` takes; the description of each field ends in its unit.

    Raises
    ------
    SettingsError
        From :meth:`from_conf`, for an unknown key or a value that is not allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    device: Annotated[str, AfterValidator(values.device)] = Field(
        "auto",
        description="Where the networks run: auto (a GPU where there is one), cpu, cuda, cuda:N",
    )
    networks: bool = Field(
        True,
        description="Predict, score and train; off: a server for the labels that are in the "
        "folder, to be looked through, reviewed and corrected without any network",
    )
    structures: str = Field(
        "",
        description="What is annotated: abdomenatlas-1.0 (nine organs), abdomenatlas-1.1 (25), "
        "a-eval, totalsegmentator-abdomen, or a YAML or JSON file that describes a set; empty: as "
        "the campaign was begun, abdomenatlas-1.0 for a new one. Structures may be added to a "
        "campaign at the end, none taken away",
    )
    models: Path | None = Field(
        None, description="Folder of the checkpoints; empty: `model/` of the app folder"
    )
    ledger: Path | None = Field(
        None,
        description="File of the ledger, on a local disk; empty: `.atlas8k/ledger.sqlite` beside "
        "the studies, or in a local data folder where those are a URL or on a network disk",
    )
    window_overlap: float | None = Field(
        None,
        ge=0.0,
        le=0.9,
        description="Overlap of neighbouring prediction windows, Gaussian weighted; empty: "
        "as each checkpoint says, 0.5 as a rule",
        json_schema_extra={"unit": "fraction of a window"},
    )
    ensemble_weights: Annotated[str, AfterValidator(values.weights)] = Field(
        "",
        description="What each network counts in the ensemble's label, for all organs or for "
        f"one, such as `{EXAMPLE}`; empty: all the same",
    )
    largest_component: bool = Field(
        True,
        description="Labels keep the largest 26-connected piece of every organ that is one piece",
    )
    fill_holes: bool = Field(
        False,
        description="Labels give an organ the voxels without label that it encloses",
    )
    mirror: bool = Field(
        False,
        description="Test-time augmentation: each network also sees windows mirrored along the "
        "axes it was trained with mirrored volumes, where its checkpoint says so; up to eight "
        "times as slow",
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32",
        description="In which the networks compute; the shorter ones are some times faster on "
        "GPUs and newer CPUs, and moved single organs by a DSC of up to 0.01",
    )
    compile_networks: bool = Field(
        False,
        description="Networks through torch.compile: needs a C++ compiler and minutes at the "
        "first CT; for a GPU that predicts thousands",
    )
    overlap_term: Literal["per_network", "any"] = Field(
        "per_network",
        description="Eq. 3 counts two organs claimed by the same network (per_network) or by "
        "any two networks (any)",
    )
    inconsistency_threshold: float = Field(
        0.1,
        ge=0.0,
        le=0.5,
        description="Salient regions: a voxel counts from this standard deviation on",
        json_schema_extra={"unit": "probability"},
    )
    uncertainty_threshold: float = Field(
        0.05,
        ge=0.0,
        le=0.37,
        description="Salient regions: a voxel counts from this entropy on",
        json_schema_extra={"unit": "nat"},
    )
    opening_mm: float = Field(
        7.5,
        ge=0.0,
        le=100.0,
        description="Salient regions: what is thinner than this is an organ's ordinary outline",
        json_schema_extra={"unit": "mm"},
    )
    min_region_ml: float = Field(
        0.5,
        ge=0.0,
        le=1000.0,
        description="Salient regions smaller than this are not shown",
        json_schema_extra={"unit": "ml"},
    )
    ranking: Annotated[str | None, AfterValidator(values.ranking)] = Field(
        None,
        description="Order of the priority list: attention size (eq4), volume of the salient "
        "regions (salient), attention over its largest value a slice (per_slice), disagreement "
        "of the networks' labels (pairwise_dice), entropy of their mean (epistemic_sum), what "
        "anatomical rules have against the pseudo label (findings), or the wrong volume to be "
        "expected (expected_error); empty: as the ledger has it, salient at first",
    )
    selection: Annotated[str | None, AfterValidator(values.selection)] = Field(
        None,
        description="How the list of a round is drawn: largest of the ranking first (ranking), "
        "at random (random), at random where an organ is predicted (random_foreground), or two "
        "thirds of the budget by class of the worst organ and by diversity, the rest by the "
        "ranking with decaying noise (stratified); empty: as the ledger has it, ranking at first",
    )
    cache_gb: float = Field(
        20.0,
        ge=0.0,
        le=1_000_000.0,
        description="Predictions kept beside the ledger may take this; 0: none are kept",
        json_schema_extra={"unit": "GB"},
    )
    check_content: bool = Field(
        True,
        description="Volumes that are no HU, a label map, or show no abdomen are left out until "
        "somebody includes them; off: nothing is looked for",
    )
    exports: Path | None = Field(
        None,
        description="Folder that exports from the campaign's page are written to; empty: beside "
        "the studies folder, `-exports` behind its name",
    )
    find_duplicates: bool = Field(
        True,
        description="CTs of a folder are compared with each other in the background: duplicates, "
        "and CTs of one patient, are shown and never lie on two sides of a split; off: only when "
        "atlas8k cts duplicates is run",
    )
    score_new_s: float = Field(
        60.0,
        ge=0.0,
        le=86_400.0,
        description="CTs that appear are scored by themselves, looked for so often, once the "
        "networks served have scored others; 0: only when asked",
        json_schema_extra={"unit": "s"},
    )
    budget: float = Field(
        0.05,
        gt=0.0,
        le=1.0,
        description="Part of the volumes an annotator reviews in one round",
        json_schema_extra={"unit": "fraction of the volumes"},
    )
    rank_all_organs: bool = Field(
        False,
        description="Rank volumes by all organs; else organs that are public or revised "
        "already are left out",
    )
    audit_percent: float | None = Field(
        None,
        ge=0.0,
        le=100.0,
        description="Part of the volumes behind the budget's that are given out all the same, "
        "drawn at random, one at least, to estimate what errors are left there; 0: none; empty: "
        "as the ledger has it, 1 at first",
        json_schema_extra={"unit": "% of the low-ranked volumes"},
    )
    stop_after: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="The campaign can end when so many volumes from the top of the list, or "
        "the whole budget, needed no change; it is shown, nothing ends by itself; empty: as "
        "the ledger has it, 10 at first",
        json_schema_extra={"unit": "volumes"},
    )
    review_percent: float = Field(
        0.0,
        ge=0.0,
        le=100.0,
        description="Part of the submissions that a reviewer looks at, beside conflicts and "
        "disputes",
        json_schema_extra={"unit": "% of the submissions"},
    )
    double_read_percent: float = Field(
        0.0,
        ge=0.0,
        le=100.0,
        description="Part of the volumes that two people read, neither knowing the other's label",
        json_schema_extra={"unit": "% of the volumes"},
    )
    double_read_start: Literal["draft", "empty"] = Field(
        "draft",
        description="What the second reader begins with: the draft label that the first had, or "
        "nothing, and neither places nor predictions until the reading is submitted (empty)",
    )
    gold: Path | None = Field(
        None,
        description="Folder of labels that you know, `NAME.nii.gz` after CTs of the studies, and "
        "outside of these: such gold cases are mixed in with the others to measure each "
        "annotator, who cannot tell them apart; needs sign-in; empty: none",
    )
    gold_percent: float = Field(
        5.0,
        ge=0.0,
        le=50.0,
        description="Part of each annotator's samples that are gold cases; 0: they come in their "
        "order alone",
        json_schema_extra={"unit": "% of the samples"},
    )
    seniors: str | None = Field(
        None,
        description="Users, or client ids where sign-in is off, who are experienced, with commas "
        "between them: hard cases are given to them alone; empty: everybody gets every case",
    )
    senior_percent: float = Field(
        20.0,
        ge=0.0,
        le=100.0,
        description="Hard cases: so many of the budget's places, from the first on, where "
        "`seniors` are named",
        json_schema_extra={"unit": "% of the budget"},
    )
    lease_minutes: float = Field(
        90.0,
        gt=0.0,
        le=7 * 24 * 60.0,
        description="How long a volume handed out stays with its holder",
        json_schema_extra={"unit": "minutes"},
    )
    upload_mb: float = Field(
        1024.0,
        gt=0.0,
        le=64 * 1024.0,
        description="An uploaded image or label may have this size, as sent and unpacked",
        json_schema_extra={"unit": "MiB"},
    )
    browser_mvoxels: float = Field(
        32.0,
        gt=0.0,
        le=1000.0,
        description="The page of a case loads so much of a CT at once: the whole of a smaller "
        "one; a larger one thinned, and for drawing a block at full resolution. 32, which is "
        "512 x 512 x 122, take a browser less than 1.5 GB",
        json_schema_extra={"unit": "million voxels"},
    )
    served_gb: float = Field(
        20.0,
        ge=0.0,
        le=1_000_000.0,
        description="Copies of CTs that programs read in different ways, given out with one "
        "geometry, may take this; those in use stay",
        json_schema_extra={"unit": "GB"},
    )
    check_labels_hours: float = Field(
        24.0,
        ge=0.0,
        le=8760.0,
        description="How often every label file is held against its hash, in the background; at "
        "the start it always is, and what is gone or was written to is found within a minute or "
        "so; 0: at the start only",
        json_schema_extra={"unit": "hours"},
    )
    dicom_cache_gb: float = Field(
        50.0,
        ge=0.0,
        le=1_000_000.0,
        description="DICOM archive: CTs kept here may take this; those somebody holds stay",
        json_schema_extra={"unit": "GB"},
    )
    dicom_cache_days: float = Field(
        30.0,
        gt=0.0,
        le=36_500.0,
        description="DICOM archive: CTs not used for so long are deleted here",
        json_schema_extra={"unit": "days"},
    )
    dicom_poll_s: float = Field(
        5.0,
        ge=0.2,
        le=86_400.0,
        description="DICOM archive: how often it is asked which series it has",
        json_schema_extra={"unit": "s"},
    )
    cors_origins: Annotated[str, AfterValidator(values.origins)] | None = Field(
        None,
        description="Web pages of other servers that may call this one, origins with commas "
        "between them; empty: none",
    )
    allowed_hosts: Annotated[str, AfterValidator(values.host_names)] | None = Field(
        None,
        description="Names by which browsers and programs reach this server, with commas between "
        "them: of a proxy in front, of the machine in the local network; `*.example.org` for all "
        "below one, `*` for every name. Addresses, localhost and the machine's own name need none",
    )
    nninteractive: Annotated[str, AfterValidator(values.server)] | None = Field(
        None,
        description="Strokes: the address of a server of nnInteractive that annotators may ask "
        "instead of our networks, such as `http://gpu.example:1527`; CTs' voxels are sent there. "
        "Its key is taken from the environment, `NN_INTERACTIVE_API_KEY`; empty: none",
    )
    nninteractive_licence: str | None = Field(
        None,
        max_length=200,
        description="Strokes: the licence of nnInteractive's weights, typed as its server states "
        "it, hyphens for spaces, by who accepts it for the campaign; kept with every label that "
        "they helped with",
    )
    token_clients: str | None = Field(
        None,
        description="Sign-in: applications of the realm whose tokens are taken (`azp`, or in "
        "`aud`), with commas between them; `*`: all; empty: MONAI_LABEL_AUTH_CLIENT_ID alone",
    )
    token_issuer: str | None = Field(
        None,
        description="Sign-in: who has made a token (`iss`), where the realm is known to clients by "
        "another address than to this server; empty: as the realm's configuration says",
    )
    max_connections: int = Field(
        1000,
        ge=8,
        le=20_000,
        description="Connections at a time, as far as the process may open so many files; beyond "
        "that idle ones make room for new ones",
    )
    all_routes: bool = Field(
        False,
        description="Offer MONAI Label's routes that neither 3D Slicer, OHIF nor our commands "
        "call: batch inference, the finished cases as one archive, networks' files, GPUs, "
        "scoring by every method, making the app anew",
    )
    show_phi: bool = Field(
        False,
        description="Show patient names, ids and dates in logs, replies and pages",
    )
    max_epochs: int = Field(
        10,
        ge=1,
        le=10_000,
        description="Fine-tuning: epochs of one training; a client may ask for another number",
        json_schema_extra={"unit": "epochs"},
    )
    steps_per_epoch: int = Field(
        20,
        ge=1,
        le=100_000,
        description="Fine-tuning: optimizer steps of one epoch and network",
        json_schema_extra={"unit": "steps"},
    )

    pseudo_weight: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Fine-tuning: what a pseudo label counts beside one that a person stands "
        "for; 0: the loss does not see it",
    )
    training: Annotated[dict[str, Any], BeforeValidator(values.json_object)] = Field(
        {},
        description="Fine-tuning: further settings, a JSON object without spaces such as "
        '`{"optimisers":"paper","augment":0.5}` or a file with one; see the README of training',
    )

    patients: Path | None = Field(
        None,
        description="Fine-tuning: CSV with the columns `volume` and `patient`; volumes of one "
        "patient are either trained or measured on. Empty: every volume is of another patient; "
        "of an archive, its PatientID says",
    )

    gate: bool = Field(
        True,
        description="Networks that were trained are served only if no worse than those served "
        "now; off: they are served whatever they do",
    )
    gate_margin: float = Field(
        0.02,
        ge=0.0,
        le=1.0,
        description="Gate: what an organ may lose",
        json_schema_extra={"unit": "DSC"},
    )

    @classmethod
    def from_conf(cls, conf: Mapping[str, str]) -> Settings:
        """Parse the user's ``--conf key value`` pairs.

        Parameters
        ----------
        conf
            Values are strings as typed; an empty one means the default.

        Raises
        ------
        SettingsError
            Naming the key and what is allowed.
        """
        allowed = list(cls.model_fields)
        for key in conf:
            if key not in cls.model_fields:
                near = difflib.get_close_matches(key, allowed, n=1)
                hint = f"; did you mean {near[0]}?" if near else "."
                raise SettingsError(
                    f"--conf {key}: there is no such key{hint} Allowed keys: {', '.join(allowed)}"
                )
        try:
            return cls.model_validate({k: v for k, v in conf.items() if v != ""})
        except ValidationError as err:
            first = err.errors(include_url=False)[0]
            key = str(first["loc"][0])
            raise SettingsError(
                f"--conf {key} {first['input']}: {first['msg']} ({cls.describe(key)})"
            ) from err

    def recorded(self) -> dict[str, Any]:
        """Return every setting, JSON-ready, for the audit trail: numbers and plain words.

        A path, an address or other text may name a person or a place; of it there is a hash.
        """
        return {key: _recorded(value) for key, value in self.model_dump(mode="json").items()}

    @classmethod
    def describe(cls, key: str) -> str:
        """Return the description of a key, with its unit in brackets where it has one."""
        field = cls.model_fields[key]
        extra = field.json_schema_extra
        unit = extra.get("unit") if isinstance(extra, dict) else None
        return f"{field.description} [{unit}]" if unit else str(field.description)

    @classmethod
    def table(cls) -> str:
        """Return a Markdown table of every key, its default, unit and meaning, for the README."""
        rows = ["| key | default | unit | meaning |", "| --- | --- | --- | --- |"]
        for key, field in cls.model_fields.items():
            extra = field.json_schema_extra
            unit = extra.get("unit", "") if isinstance(extra, dict) else ""
            default = "" if field.default is None else f"`{field.default}`"
            rows.append(f"| `{key}` | {default} | {unit} | {field.description} |")
        return "\n".join(rows)
