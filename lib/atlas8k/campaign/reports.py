"""Reports of a campaign: the JSON of every interface.

``atlas8k campaign status --json`` and ``GET /atlas8k/campaign`` give a :class:`Status`;
``atlas8k campaign schema`` prints its JSON schema. Times are UTC seconds since 1970.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class OrganChanges(_Report):
    """Changes of one organ by submissions, one count a volume."""

    organ: str
    confirmed: int = Field(description="left as it was, or agreed to be absent")
    changed: int = Field(description="drawn otherwise")
    added: int = Field(description="drawn where the draft label had none")
    absent: int = Field(description="taken away: it is not in this CT")
    nothing_said: int = Field(description="not assessed")
    mean_dsc: float | None = Field(
        description="of draft label and submission, mean over volumes that needed a change; an "
        "organ added or taken away counts 0"
    )
    voxels_changed: int = Field(description="voxels in one of the two only, summed")


class Effort(_Report):
    """Time from hand-out to submission."""

    hours: float = Field(description="spent, over the cases whose time is known")
    timed: int = Field(description="cases whose time is known")
    untimed: int = Field(description="cases without: submitted without having been handed out")
    idle: int = Field(description="cases held longer than idle_minutes, which count as that")
    idle_minutes: float
    minutes_each: float | None = Field(description="mean over timed cases")
    hours_at_15: float = Field(description="paper: 15 minutes a volume with the procedure")
    hours_by_hand: float = Field(
        description="paper: 60 minutes an organ by hand, organs of these volumes not public"
    )
    hours_saved: float | None = Field(
        description="by hand less spent, untimed cases at the mean of the others; null: none timed"
    )


class Annotator(_Report):
    """One person's part; ``name`` is a number where names are not shown."""

    name: str
    volumes: int
    hours: float
    minutes_each: float | None
    untimed: int


class OrganDsc(_Report):
    """Mean DSC of one organ before and after a training."""

    organ: str
    cases: int
    before: float
    after: float


class Training(_Report):
    """A fine-tuning and its result."""

    at: float
    trained_from: str | None = Field(description="model version that was served before")
    model_version: str | None = Field(description="model version that is served after it")
    networks: list[str] = Field(description="trained; those published are in `published`")
    published: list[str]
    refused: dict[str, str] = Field(description="network: reason of the gate")
    verdict: Literal["published", "partly published", "refused", "not compared", "failed"]
    basis: str | None = Field(description="cases compared on: held out, or trained on")
    cases: int | None = Field(description="labeled volumes there were")
    compared: int | None = Field(description="cases the gate compared on")
    dsc_before: float | None = Field(description="mean over organs")
    dsc_after: float | None
    organs: list[OrganDsc]
    minutes: float | None
    message: str


class StopRule(_Report):
    """Step 8: whether the top of the list still needs revision."""

    round: int
    needed: int = Field(description="so many in a row, from the first place of the list on")
    in_a_row: int = Field(description="from the first place on, confirmed without a change")
    reached: bool
    broken_by: str | None = Field(description="first volume of the list that needed a change")
    broken_at: int | None = Field(description="its place")
    waits_for: str | None = Field(description="first volume of the list not reviewed yet")
    text: str


class Interval(_Report):
    """A share with its exact 95 % interval; all null where nothing was audited."""

    audited: int
    wrong: int
    share: float | None
    low: float | None
    high: float | None


class OrganAudit(Interval):
    """Share of volumes in which the organ was wrong."""

    organ: str


class Audit(_Report):
    """Low-ranked volumes reviewed at random: the errors left in the others.

    Audits count in the order in which they were drawn, up to the first that is not done: the
    others are no random sample.
    """

    round: int
    percent: float
    low_ranked: int = Field(description="volumes behind the budget's when the list was drawn")
    drawn: int
    open: int = Field(description="drawn and not reviewed: an organ in it was not assessed")
    waiting: int = Field(description="drawn and reviewed, but not counted before `waits_for` is")
    waits_for: str | None = Field(description="first drawn volume that is not reviewed")
    unseen: int = Field(description="of the low-ranked, not submitted in any round")
    top_unseen: int = Field(description="places of the budget, not submitted in any round")
    volumes: Interval = Field(description="volumes with any error, as a share of the low-ranked")
    left: int | None = Field(
        description="volumes with errors among the unseen low-ranked, estimated, by the labels of "
        "the round's networks"
    )
    left_low: int | None
    left_high: int | None
    organs: list[OrganAudit]
    text: str


class PlaceEvidence(_Report):
    """Whether the places shown to look at led to what annotators changed, by organ."""

    organ: str = Field(description="`all`: all of them together")
    volumes: int = Field(description="submitted ones that had places, the organ being assessed")
    enough: bool = Field(description="20 or more of these; else shares and minutes are null")
    changed_ml: float = Field(description="in one of draft label and first submission only")
    inside_ml: float = Field(description="of it, in the box of a place, for whichever organ")
    share_inside: float | None
    places: int = Field(description="shown for this organ")
    changed_places: int = Field(description="of them, with any change in the box")
    share_places: float | None
    minutes: float | None = Field(
        description="mean of the volumes in which the organ was changed, 60 at most each"
    )


class QualityEvidence(_Report):
    """Predicted quality of draft labels beside what annotators found, by organ.

    Each was predicted before its submission: a recalibrated interval is judged by volumes
    submitted after those it was calibrated on, and by no others.
    """

    organ: str = Field(description="`all`: all of them together")
    volumes: int = Field(description="submitted ones, the organ predicted and assessed")
    drawn_at_random: int = Field(description="of them audits; the others are the worst of a list")
    enough: bool = Field(description="20 or more of these; else all that follows is null")
    predicted: float | None = Field(description="mean DSC as shown")
    found: float | None = Field(description="mean DSC of draft label and submission")
    error: float | None = Field(description="mean absolute difference")
    inside: float | None = Field(description="share of found DSC in the 90 % interval shown")
    recalibrated: int = Field(description="organs of volumes whose interval was recalibrated")
    inside_recalibrated: float | None = Field(description="`inside` of these; null under 20")


class RoundReport(_Report):
    """One pass of steps 2 to 7."""

    number: int
    model_version: str | None
    opened_at: float
    closed_at: float | None
    budget: int = Field(description="volumes to review; 0: not known any more")
    reviewed: int = Field(
        description="volumes given out in it that somebody submitted, audits included"
    )
    audited: int
    changed: int = Field(description="volumes in which any organ needed a change")
    confirmed: int
    organs: list[OrganChanges]
    evidence: list[PlaceEvidence] = Field(description="of the places shown, by organ, then all")
    quality: list[QualityEvidence] = Field(description="of predicted DSC, by organ, then all")
    effort: Effort
    annotators: list[Annotator]
    trainings: list[Training] = Field(description="in this round; the last one ended it")
    closing: str = Field(description="what ended it")
    stop: StopRule | None
    audit: Audit | None


class Outliers(_Report):
    """Volumes that stand out of the distribution of the ranking (the paper's Figure 4)."""

    ranking: str
    scored: int = Field(description="volumes with a score, submitted ones included")
    fence: float | None = Field(
        description="size above which a volume is an outlier, in the ranking's unit: Tukey's "
        "upper fence of the log sizes; null: too few volumes, or no spread"
    )
    outliers: int
    share: float = Field(description="of the scored volumes")
    to_review: int = Field(description="outliers that nobody has submitted: offered as a budget")
    budget: int | None = Field(description="of the open round, beside it")
    text: str


class NoiseOfOrgan(_Report):
    """Volumes of a dataset in which an anatomical rule has something against an organ."""

    dataset: str = Field(description="source dataset; empty where it is not known")
    organ: str = Field(description="`any`: whichever")
    checked: int
    before: int = Field(description="by the pseudo label")
    after: int = Field(description="by the label that is current: the fused one where there is one")
    rules: dict[str, int] = Field(description="volumes by rule, of the current label")


class Sweep(_Report):
    """Looks at the outlines of labels, fine or flagged; a look confirms nothing."""

    seed: str = Field(description="the random order is that of SHA256 of `seed:volume`")
    volumes: int = Field(description="that count and have a label")
    looked: int
    flagged: int
    changed: int = Field(description="of the flagged: a submission since then changed the label")
    right: int = Field(description="of the flagged: submitted since then without a change")
    open: int = Field(description="of the flagged: nobody has submitted it since then")
    missed: int = Field(description="looked fine, and a submission since then changed the label")
    unseen: int = Field(description="neither submitted nor looked at")
    estimate: Interval = Field(
        description="wrong among the first of the random order, of what nobody had submitted"
    )
    left: int | None = Field(description="wrong ones among the unseen, estimated")
    left_low: int | None
    left_high: int | None
    text: str


class Step(_Report):
    """One of the eight steps and its state."""

    number: int
    name: str = Field(description="in the procedure's words")
    state: Literal["done", "due", "running", "waits", "to decide"]
    detail: str
    command: str = Field(description="what does it; empty where nothing has to be done")


class Volumes(_Report):
    """Volumes of the studies folder by state."""

    total: int
    reviewed: int
    in_hand: int
    conflicts: int
    excluded: int
    scored: int = Field(description="under the networks served now")
    failed: int


class NotUsable(_Report):
    """A volume that counts nowhere."""

    volume: str
    reason: str
    kind: str = Field(description="person, or what its content looks like")
    by: str = Field(description="who said so; empty where nobody did or names are not shown")
    at: float


class Status(_Report):
    """A campaign as it stands."""

    version: Literal[1] = 1
    at: float
    model_version: str | None = Field(description="served now, or of the last round")
    volumes: Volumes
    not_usable: list[NotUsable] = Field(description="left out of list, budget, audits, training")
    audit_percent: float
    stop_after: int
    round: int | None = Field(description="the open one")
    rounds: list[RoundReport]
    stop: StopRule | None = Field(description="of the last round that has a list, open or not")
    audit: Audit | None = Field(description="of the last round that something was audited in")
    sweep: Sweep | None = Field(description="null: nobody has looked at anything in one")
    outliers: Outliers | None = Field(description="of the ranking in use; null: nothing is scored")
    predicted_quality: str = Field(
        description="what predicted DSC and wrong volume rest on under the networks served now"
    )
    label_noise: list[NoiseOfOrgan] = Field(
        description="as Touchstone's appendix E: by dataset and organ, before and after revision"
    )
    hours_collection_by_hand: float
    steps: list[Step]
