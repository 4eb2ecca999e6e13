# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 00 · Fetch a public cohort
#
# Which public CT shows the five phases of the paper, how much of it is there, and under which licence? The paper's 1102
# patients are private. The NCI Imaging Data Commons (IDC) holds renal CT of 528 others.
#
# | | |
# |---|---|
# | **reads** | the index of the IDC that comes with the package idc-index (`pip install -e ".[public-data]"`, 80 MB) |
# | **writes** | `manifest.csv`: series, phase, size, licence; if `download`, DICOM, `labels.csv`, and unlikely labels |
# | **takes** | a minute without a download, for the phantoms; the download of all 528 patients is 81 GB |
#
# The manifest needs no network. The download was **not tested**: it needs a network that the authors' machine lacks.

# %%
from IPython.display import Markdown, display
import numpy as np
import pandas as pd

from lib.figures.label_check import draw_label_check
from lib.figures.style import save_figure
from lib.files import atomic_path, resolve
from lib.label_check import ENHANCED_HU, EXCRETED_HU, GAP_HU, check_labels, count_doubts, exchange, gap_limits
from lib.paper import PHASES
from lib.phantom.cohort import PHANTOM_KEY, plan_cohort as plan_phantoms, write_cohort
from lib.public_cohort import (
    choose_patients,
    count_by_phase,
    count_fates,
    download as fetch,
    phase_rules,
    plan_cohort,
    read_index,
    sources,
    write_labels,
)

# %% tags=["parameters"]
folder: str = "runs/public/dicom"  # where the DICOM files and labels.csv go
manifest: str = "runs/public/manifest.csv"  # where the list of series goes
patients: int = 100  # patients to fetch, those with most phases first; 0 for all
download: bool = False  # fetch the files as well: needs a network
tables: str = "runs/public/tables"  # where the table of the checked labels goes
figures: str = "runs/public/figures"  # where their figure goes
phantoms: int = 20  # simulated patients on whom the check of labels is tried; 0 for none
phantom_folder: str = "runs/public/phantoms"  # where these go
exchanged: float = 0.3  # share of their labels that is exchanged
seed: int = 525  # of these patients and of the exchange

# %% [markdown]
# ## What the index holds
#
# Six collections of renal tumours and bladder cancer. A row of the index is a series, with its description as the
# hospital's staff typed it: the only thing in it that tells the phase.

# %%
pd.set_option("display.max_colwidth", 80)
index = read_index()
display(pd.crosstab(index["collection_id"], index["Modality"]))

# %% [markdown]
# ## Rules for the phase
#
# Patterns on SeriesDescription, in English, Polish and Spanish. Rules of a lower order come first: seconds after
# injection say more than words, a word for a delay more than what a scan is for. "Late" means a delayed scan
# in C4KC-KiTS only. A description that names two phases is not used. Where a description names none, the segmentations
# of RCC-AID, whose readers noted the phase, decide for "arterial" and "delayed".

# %%
display(phase_rules()[["order", "phase", "examples"]])

# %%
planned = plan_cohort(index)
display(count_by_phase(planned))
usable = planned[planned["fate"] == "chosen"]
display(pd.crosstab(usable["evidence"], usable["phase"]).reindex(columns=PHASES))

# %% [markdown]
# Every CT series has one fate, and the fates add up to the index. A study gives one series per phase: of several
# reconstructions the one whose number of images is nearest to 90.

# %%
fates = count_fates(planned)
assert fates.loc["all", "all"] == (index["Modality"] == "CT").sum()
display(fates)

# %% [markdown]
# Descriptions that name no phase, the most frequent first: here a rule could be missing.

# %%
silent = planned[planned["fate"] == "no phase named"]["SeriesDescription"].str.lower()
display(silent.value_counts().head(20).to_frame().T)

# %% [markdown]
# ## Licences, sources, size
#
# All are Creative Commons Attribution: a publication cites the DOI of each collection that it uses.

# %%
everything = planned[planned["fate"] == "chosen"]
display(sources(planned))
studies = everything["StudyInstanceUID"].nunique()
with_seg = everything["kidney_seg"].notna().sum()
print(f"{len(everything)} series of {everything['PatientID'].nunique()} patients in {studies} studies,")
print(f"{everything['instanceCount'].sum()} images, {everything['series_size_MB'].sum() / 1000:.0f} GB;")
print(f"{with_seg} series have a kidney segmentation in their study; the others need one to be trained on.")

# %% [markdown]
# ## The chosen patients

# %%
chosen = choose_patients(planned, patients)
with atomic_path(resolve(manifest)) as file:
    chosen.to_csv(file, index=False)
display(count_by_phase(chosen))
print(f"{len(chosen)} series, {chosen['series_size_MB'].sum() / 1000:.1f} GB: {manifest}")

# %% [markdown]
# ## The download
#
# idc-index fetches from public buckets, shows its progress and, called again, fetches what is missing. Segmentations of
# the kidneys come along: they give the slices that are used.

# %%
if download:
    try:
        there = fetch(chosen, folder)
        print(
            f"{len(there)} of {len(chosen)} series are in {folder}; {write_labels(chosen, there, folder)} names phases"
        )
        print("Next: make figures PROFILE=public")
    except ConnectionError as error:
        print(f"Stopped after the manifest: {error}")
else:
    print("Nothing was downloaded: set download = True where there is a network.")

# %% [markdown]
# ## How far to trust these labels
#
# A description says what was ordered. C4KC-KiTS's "arterial" mixes corticomedullary and later scans; a delay of three
# minutes may show little contrast in the renal pelvis; "nephrographic" means anything from 70 to 120 seconds. The
# images themselves say more. In the segmented kidneys of a series three values are measured: the median attenuation of
# the *outer* parenchyma (2 to 5 mm below the surface: cortex), of the *inner* parenchyma (more than 9 mm deep: medulla
# with the columns of cortex between the pyramids), and what the brightest hundredth of the inside reaches (pelvis and
# calyces). A label is unlikely, in this order,
#
# 1. if it is *noncon* and the parenchyma is enhanced, or any other and it is not;
# 2. if it is *pyelo* and the pelvis holds no excreted contrast medium, or any other phase and it does;
# 3. if the outer parenchyma differs from the inner by less, or by more, than the phase allows.
#
# The limits come from published attenuation. Each is a constant of `lib/label_check.py`, with its reason.

# %%
limits = pd.DataFrame([(phase, *gap_limits(phase)) for phase in GAP_HU], columns=["phase", "least", "most"])
print(f"enhanced from {ENHANCED_HU:.0f} HU; excreted from {EXCRETED_HU:.0f} HU above the outer parenchyma")
display(limits.round(0).set_index("phase"))

# %% [markdown]
# ### What the check finds, and what it misses
#
# A check has to be checked. The phantom knows its phases. Some of its labels are exchanged for other ones here, and
# the check is asked which. It sees the same DICOM and the same segmentations as it does of patients.

# %%
found = pd.DataFrame()
if phantoms:
    where, rng = resolve(phantom_folder), np.random.default_rng(seed)
    plan = plan_phantoms(phantoms, slices=4, test_slices=4, seed=seed, test_seed=seed, key=PHANTOM_KEY)
    write_cohort(where, plan, processes=1, matrix=256)
    known = pd.read_csv(where / "labels.csv").set_index("series_uid")["phase"]
    given = exchange(known, exchanged, rng)
    found = check_labels(where, given).assign(known=lambda t: t["series_uid"].map(known))
    found["exchanged"] = found["phase"] != found["known"]
    display(count_doubts(found))

# %%
if len(found):
    display(draw_label_check(found))
    words = "**Labels of phantoms, some of them exchanged**, against the attenuation of the segmented kidneys. A point "
    words += f"is a series ({len(found)} series of {found['patient'].nunique()} phantoms); a cross is a series whose "
    words += "label is called unlikely by any of the three rules; grey is where a label is likely."
    display(Markdown(words))

# %% [markdown]
# Which exchanges stay unnoticed? Rows are the known phase, columns the label that was given instead. Of neighbouring
# phases, which flow into each other, many exchanges look possible.

# %%
if len(found):
    wrong = found[found["exchanged"]].assign(noticed=lambda t: t["doubt"] != "")
    told = {"index": "known", "columns": "phase", "values": "noticed", "aggfunc": lambda n: f"{n.sum()} of {len(n)}"}
    shown = wrong.pivot_table(**told).reindex(index=PHASES, columns=PHASES)
    display(shown.fillna(""))

# %% [markdown]
# ### The public cohort
#
# The same for what has been downloaded. A series counts if a kidney segmentation was drawn on that very series, since
# kidneys move by centimetres between two breaths.

# %%
checked = pd.DataFrame()
if (resolve(folder) / "labels.csv").exists():
    given = pd.read_csv(resolve(folder) / "labels.csv", dtype=str).set_index("series_uid")["phase"]
    checked = check_labels(folder, given)
    with atomic_path(resolve(tables) / "public_labels.csv") as file:
        checked.round(1).to_csv(file, index=False)
    display(checked["unmeasured"].replace("", "measured").value_counts().to_frame("series").T)
    flagged = checked[checked["doubt"] != ""].merge(chosen, left_on="series_uid", right_on="SeriesInstanceUID")
    columns = ["collection_id", "PatientID", "SeriesDescription", "phase_x", "doubt"]
    display(flagged[columns].rename(columns={"phase_x": "label"}))
else:
    print(f"There is no {folder}/labels.csv: nothing has been downloaded, and there are no public labels to check.")

# %%
if len(checked) and (checked["unmeasured"] == "").any():
    figure = draw_label_check(checked)
    save_figure(figure, resolve(figures) / "public_labels")
    display(figure)

# %% [markdown]
# ## What we saw
#
# The index offers 1103 series of 528 patients (the paper: 3253 of 1102), of which few lie between the corticomedullary
# and the excretory phase: 55 CM-neph and 46 neph. Labels that contradict the images can be found where the kidneys are
# segmented: grossly wrong ones nearly all, those of a neighbouring phase rarely. Look at each flagged series before its
# label is changed.
