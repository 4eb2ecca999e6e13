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
# patients are private. The NCI Imaging Data Commons (IDC) holds renal CT of some five hundred others.
#
# | | |
# |---|---|
# | **reads** | the index of the IDC that comes with the package idc-index (`pip install -e ".[public-data]"`, 80 MB) |
# | **writes** | `manifest.csv`: series, phase, size, licence, source; if `download`, also DICOM and `labels.csv` |
# | **takes** | seconds without a download; the download of all 525 patients is 80 GB |
#
# The manifest needs no network. The download was **not tested**: it needs a network that the authors' machine lacks.

# %%
from IPython.display import display
import pandas as pd

from lib.files import atomic_path, resolve
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
# minutes may show little contrast in the renal pelvis; "nephrographic" means anything from 70 to 120 seconds. So the
# public cohort answers with about 525 patients, half the paper's number, with few series between the corticomedullary
# and the excretory phase, and with labels that have to be checked against the images: the difference between cortex and
# medulla, and the attenuation of the renal pelvis.
