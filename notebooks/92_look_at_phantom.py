# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 92 · Look at the phantom
#
# Holds the phantom cohort against patients: images, enhancement, Hounsfield units, noise, kidneys and labels. Whoever
# reads a result that was made on it should have looked at it first. This project's own; nothing of it is in the paper.
#
# | | |
# |---|---|
# | **reads** | the phantom's `dicom/truth.csv` and `cohort/` of 01_prepare_cohort; published measurements in `lib/` |
# | **writes** | `tables/phantom_{hu,geometry,noise,label_ceiling}.csv`; figures `phantom_*` |
# | **takes** | about a minute on one core, most of it for the kidneys and the noise |

# %%
from dataclasses import replace

from IPython.display import display
import numpy as np
import pandas as pd

from lib.body_mask import body_mask
from lib.cohort import Cohort
from lib.dicom import find_series, read_volume
from lib.figures.style import save_figure
from lib.labels import hashed_id, read_labels
from lib.paper import PHASES, published
from lib.titles import PHASE_TITLES
from lib.phantom.study import Examination
from lib.phantom.kinetics import Enhancement, Injection, Subject
from lib.phantom.labelling_reader import TURNS, label_ceiling, phase_by_time
from lib.figures.phantom import draw_curves, draw_geometry, draw_hu, draw_images, draw_spectra
from lib.phantom.measures import (
    compare_hu, kidney_geometry, kidney_masks, mean_frequency, measure_tissues, noise_power, scan_liver
)  # fmt: skip
from lib.provenance import write_sidecar
from lib.files import atomic_path, require, resolve

# %% tags=["parameters"]
dicom_folder: str = "runs/quick/dicom"  # the phantom's files, with truth.csv
cohort: str = "runs/quick/cohort"  # made by 01_prepare_cohort
key: str = "philbrick2018"  # of the keyed hash that named the cohort's series
tables: str = "runs/quick/tables"  # where the tables go
figures: str = "runs/quick/figures"  # where the figures go
real_ct: str = ""  # folder of real CT to lay beside, with labels.csv for the phases; empty: none
shown: int = 4  # patients whose phases are shown
kidney_patients: int = 100  # whose kidneys are measured
noise_patients: int = 40  # who are scanned again for the noise
series_measured: int = 200  # of the table of HU; 0 takes all

# %% [markdown]
# ## The patients

# %%
truth = pd.read_csv(require(resolve(dicom_folder) / "truth.csv", "01_prepare_cohort"), dtype={"patient": str})
prepared = Cohort.open(require(cohort, "01_prepare_cohort"))
truth["series"] = [hashed_id(key, "series", uid) for uid in truth["series_uid"]]
known = truth["series"].isin(prepared.slices["series"])
if not known.any():
    raise ValueError(f"no series of {dicom_folder} is in {cohort}: were they made together, with key={key!r}?")
truth = truth[known].reset_index(drop=True)
if "seed" not in truth:
    raise ValueError(f"{dicom_folder}/truth.csv has no seeds: an older version wrote it, run 01_prepare_cohort again.")
people = truth.drop_duplicates("patient")
print(f"{len(people)} patients, {len(truth)} series, {truth['scan'].add(1).groupby(truth['patient']).max().mean():.2f}"
      " phases a patient")  # fmt: skip
people[["age", "weight_kg", "output_factor"]].describe().loc[["mean", "std", "min", "max"]].round(2)

# %% [markdown]
# ## All phases of a patient
#
# The patients with most phases, the slice nearest to the middle of the kidneys, level 40 HU, width 400 HU. A patient
# keeps anatomy, body and scanner from phase to phase; contrast, breath and noise change. Urine never brightens before
# the excretion; gas, bone and fat do not know the phase.

# %%
middle = (prepared.slices["kidney_position"] - 0.5).abs().sort_values(kind="stable").index
nearest = prepared.slices.loc[middle].drop_duplicates("series")
nearest = nearest[nearest["reconstruction"] == 1]
most = nearest.groupby("patient")["phase"].nunique().sort_values(ascending=False, kind="stable").index[:shown]
chosen = nearest[nearest["patient"].isin(most)].drop_duplicates(["patient", "phase"]).set_index(["patient", "phase"])


def image_of(patient, phase):
    row = chosen.reset_index().query("patient == @patient and phase == @phase")
    return prepared.read_hu(row)[0] if len(row) else None


rows = {f"Patient {n + 1}": [image_of(patient, phase) for phase in PHASES] for n, patient in enumerate(most)}
drawn = {"phantom_phases": draw_images(rows, list(PHASE_TITLES.values()))}
drawn["phantom_phases"]

# %% [markdown]
# ## Enhancement over time
#
# The median adult of the cohort (81 kg, 38 g of iodine in 30 s), against what Goshima et al. (Eur J Radiol 2007;63:420)
# measured in 128 patients. They counted from a trigger at +50 HU in the aorta, the figure counts from the injection:
# their times stand at the trigger's time, printed below, plus their own. In A the curves are the phantom's and the
# marks Goshima's: renal artery 240 to 288 HU (to be compared with the aorta's curve), cortex 195 to 217 HU, cortex less
# medulla 110 to 140 HU, then less than 30 HU from 45 s after the trigger on (triangle), medulla 145 HU 55 s after it
# (square); bars are the published ranges of HU and of times. In B lower cardiac output means a later and higher peak; a
# flow phantom with a 20-s injection (Kidoh 2017) peaked at 291, 365 and 420 HU for 5.6, 4.2 and 2.8 L/min.

# %%
times = np.arange(0, 240, 0.5)
adult = Subject("M", age=60, height_m=1.72, weight_kg=81, renal_factor=0.87)
injection = Injection(iodine_g=38, concentration=350, rate=38000 / 350 / 30)
model = Enhancement(adult, injection)
curves = {organ: model.at(times, organ) for organ in model.curves}
trigger = float(times[np.argmax(curves["aorta"] > 50)])
print(
    f"trigger {trigger:g} s after the start of the injection; expected output {adult.cardiac_output * 0.06:.1f} L/min"
)
outputs = {f: replace(adult, output_factor=f) for f in (0.6, 0.8, 1.0, 1.2, 1.4)}
by_output = {f: Enhancement(subject, injection).at(times, "aorta") for f, subject in outputs.items()}
drawn["phantom_curves"] = draw_curves(times, curves, trigger, by_output)
drawn["phantom_curves"]

# %% [markdown]
# Half of the cohort's hospitals give 0.47 g of iodine a kilogram, half a fixed volume; Goshima's patients got 0.6 g a
# kilogram. The kinetics were fitted to both, to this curve and to the absolute HU of the next section, where doses are
# lower. They contradict each other at 45 s: 30 HU between cortex and medulla, or 50. The phantom follows the second.


# %%
def after_trigger(model):
    aorta, cortex, medulla = (model.at(times, organ) for organ in ("aorta", "cortex", "medulla"))
    at = times - times[np.argmax(aorta > 50)]
    gap = cortex - medulla
    values = [np.interp(10, at, aorta), cortex.max(), at[cortex.argmax()], np.interp(20, at, gap)]
    return [*values, np.interp(45, at, gap), np.interp(55, at, medulla), at[np.argmax((gap < 30) & (at > 30))]]


goshima = Enhancement(replace(adult, height_m=1.65, weight_kg=62), Injection(37.2, concentration=300, rate=4))
measure = ["renal artery at 10 s (HU)", "cortex, peak (HU)", "peak of the cortex (s)", "cortex - medulla at 20 s (HU)",
           "cortex - medulla at 45 s (HU)", "medulla at 55 s (HU)", "cortex - medulla below 30 HU (s)"]  # fmt: skip
after = {"Goshima 2007": ["240-288", "195-217", 25, "110-140", "< 30", 145, "45"],
         "median adult": after_trigger(model), "their protocol": after_trigger(goshima)}  # fmt: skip
pd.DataFrame(after, index=pd.Index(measure, name="after the trigger")).map(
    lambda v: v if isinstance(v, str) else round(v)
)

# %% [markdown]
# ## Hounsfield units, as measured in the images
#
# Median of a tissue's core in a series: the voxels more than half as deep inside it as the deepest one, as a reader
# puts the region into the middle of the largest section. Mean and SD between series. The tissue is known from the
# phantom's segmentations, so the ruler makes no error, but blur, noise and thick slices are in it. `off` marks a mean
# further than one published SD away, or a spread that is not within half to twice the published.

# %%
first = prepared.slices[prepared.slices["reconstruction"] == 1]
series = first["series"].drop_duplicates().sort_values()  # hashes: a random choice that stays
used = first[first["series"].isin(series.iloc[: series_measured or None])]
in_patients = published("renal_ct_hu")
measured = measure_tissues(prepared, used, list(in_patients["tissue"].unique()))
hu = compare_hu(measured, in_patients)
drawn["phantom_hu"] = draw_hu(hu)
drawn["phantom_hu"]

# %%
off = hu[hu["off"] != ""]
print(f"{len(off)} of {len(hu)} are off; the mean absolute difference is {hu['in_sd'].abs().mean():.2f} published SD")
display(off.round(1))

# %% [markdown]
# ## Noise
#
# Patients scanned again at 512 x 512 in the nephrographic phase; squares of 32 x 32 pixels inside the liver, a plane
# taken off each. Upper row: noise power spectra of the phantom by slice thickness (lines, colours); of patients on the
# same kernel, the range in which the spectra of public scans peak (grey), their mean frequency (dotted line) and the
# one spectrum that was measured bin by bin (crosses; GE, 2.5 mm). Lower row: the standard deviation of the noise,
# phantom (dots) and patients (crosses; dotted line where their slice thickness is not known).

# %%
spectra, scan = [], ["manufacturer", "kernel", "thickness_mm"]
for row in people.head(noise_patients).itertuples():
    patches, pixel = scan_liver(Examination(row.patient, row.seed, row.slices, row.placing, 512))
    if len(patches) > 5:
        one = noise_power(patches, pixel)
        sd = np.sqrt((one["power"] * one["area"]).sum())
        spectra.append(one.assign(**{name: getattr(row, name) for name in scan}, patient=row.patient, sd_hu=sd))
spectra = pd.concat(spectra, ignore_index=True)
mean_spectra = spectra.groupby([*scan, "frequency"], as_index=False)[["power", "area"]].mean()
sds = spectra.drop_duplicates("patient").groupby(scan)["sd_hu"].agg(["mean", "size"])
mean_spectra = mean_spectra.merge(sds["mean"].rename("sd_hu").reset_index(), on=scan)

# %%
matches = {"Br38f": ["Siemens mCT"], "STANDARD": ["GE LightSpeed VCT", "GE LightSpeed thin"],
           "FC17": ["Toshiba Aquilion ONE"], "B": ["Pancreas-CT"]}  # fmt: skip
public = published("renal_ct_noise").set_index("scanner")
noise = []
for (make, kernel, thickness), one in mean_spectra.groupby(scan):
    real = public.loc[matches.get(kernel, [])].sort_values("thickness_mm", key=lambda mm: (mm - thickness).abs())
    real = real.iloc[0] if len(real) else pd.Series(dtype=float)
    peak, mean = one.loc[one["power"].idxmax(), "frequency"], mean_frequency(one)
    noise.append({
        "manufacturer": make, "kernel": kernel, "thickness_mm": thickness,
        "patients": sds.loc[(make, kernel, thickness), "size"],
        "sd_hu": sds.loc[(make, kernel, thickness), "mean"], "peak_per_mm": peak, "mean_per_mm": mean,
        "published_thickness_mm": real.get("thickness_mm"), "published_sd_hu": real.get("sd_hu"),
        "published_peak": real.get("peak_low_per_mm"), "published_mean_per_mm": real.get("mean_per_mm"),
    })  # fmt: skip
noise = pd.DataFrame(noise)
display(noise.round(2))
drawn["phantom_noise"] = draw_spectra(mean_spectra, published("renal_ct_noise"), matches)
drawn["phantom_noise"]

# %% [markdown]
# ## Kidneys
#
# Both kidneys of each patient, painted every 3 mm without cysts and tumours, and measured as masks. Blue: histogram of
# the phantom's patients; black line and grey band: mean and SD of the 317 lesion-free kidneys of KiTS23; dotted lines:
# their 5th and 95th percentile, where published. Above each panel: mean ± SD of the phantom, then of the patients.

# %%
spacing = (3.0, 1.5, 1.5)
measures = []
for row in people.head(kidney_patients).itertuples():
    anatomy = Examination(row.patient, row.seed, row.slices, row.placing, 512).anatomy
    measures.append(kidney_geometry(*kidney_masks(anatomy, spacing[1], spacing[0]), spacing))
kidneys = pd.DataFrame(measures)
geometry = published("kidney_geometry").set_index("quantity")
statistics = kidneys.describe(percentiles=[0.05, 0.95]).T[["mean", "std", "5%", "95%"]]
geometry = geometry.join(statistics.rename(columns=lambda name: f"phantom_{name}"), how="left")
display(geometry.drop(columns=["p5", "p95"]).round(1))
drawn["phantom_kidneys"] = draw_geometry(kidneys, published("kidney_geometry"))
drawn["phantom_kidneys"]

# %% [markdown]
# Of single kidneys the mean of the two enters, so that the spread of extent, axes, section and volume is a little
# smaller than between kidneys.
#
# ## Beside real slices
#
# The middle slice of up to four real series and phantom slices of the same phase, at the same window. `labels.csv`
# tells the phases; those of four public slices (COVID-19-NY-SBU, Pancreas-CT; The Cancer Imaging Archive), which the
# last section speaks of, were read from the images.

# %%
read_from_image = {"A027284": "noncon", "A062055": "cm-neph", "A058062": "neph", "PANCREAS_0001": "cm-neph"}
found = find_series(resolve(real_ct))[0] if real_ct and resolve(real_ct).is_dir() else []
told = resolve(real_ct) / "labels.csv"
labels = read_labels(told, {item.uid for item in found}) if found and told.exists() else None
real, real_phases = [], []
for item in found[:4]:
    volume = read_volume(item)
    hu_image = volume.hu[len(volume.hu) // 2].astype(np.float32)
    real.append(np.where(body_mask(hu_image, volume.spacing_mm[2]), hu_image, np.nan))
    known = labels is not None and item.uid in labels.index
    real_phases.append(labels.loc[item.uid, "phase"] if known else read_from_image.get(item.patient))
print(f"{len(real)} real slices" if real else f"no real CT in {real_ct!r}: nothing to lay beside")

# %%
if real:
    once = nearest[~nearest["patient"].isin(most)].drop_duplicates("patient")  # nobody twice
    taken = {phase: iter(once[once["phase"] == phase].index) for phase in PHASES}
    pairs = {"Real": real}
    for number in range(2):
        picks = [next(taken[phase], None) if phase else None for phase in real_phases]
        images = [None if pick is None else prepared.read_hu(prepared.slices.loc[[pick]])[0] for pick in picks]
        pairs[f"Phantom {number + 1}"] = images
    drawn["phantom_beside_real"] = draw_images(pairs, [PHASE_TITLES.get(phase, "not told") for phase in real_phases])
drawn.get("phantom_beside_real")

# %% [markdown]
# ## What labels can reach
#
# Each scan is labelled by a simulated reader, who errs a little. A perfect observer, who errs never, agrees with the
# reader only so far: the ceiling for every network. Beside it, the same scans labelled by the scan time alone.

# %%
by_time = truth.assign(label=[phase_by_time(None if np.isnan(t) else t) for t in truth["scan_time_s"]])
ceilings = {"reader": label_ceiling(truth), "scan time": label_ceiling(by_time)}
if (truth["labelling"] != "reader").any():
    ceilings["as labelled"] = ceilings.pop("reader")
ceiling = pd.concat(ceilings, axis=1)
display(ceiling.round(3))
print("macro F1:", {name: round(float(table["f1"].mean()), 3) for name, table in ceilings.items()})
print(f"reader and clock agree on {(truth['label'] == by_time['label']).mean():.1%} of the series")
counts = pd.crosstab(by_time["label"].rename("clock"), truth["label"].rename("reader"))
counts.reindex(index=PHASES, columns=PHASES, fill_value=0)

# %% [markdown]
# The reader's label is a function of the image: whether the aorta is enhanced, whether urine is bright, and otherwise
# an index of medulla against cortex (60 %), hepatic veins against aorta (20 %) and liver against spleen (20 %), each
# ratio squared. A network that learns such labels *must* look there. So on the phantom, with the reader's labels,
#
# - **true by construction**, at least in part (claims as numbered in 17_compare_with_paper): that maps mark kidney,
#   renal vessels, aorta and vena cava (C46, C49, C55, C56) and the cortex (C47); the signs of C48 (unenhanced wants
#   dark vessels, CM a bright cortex and a dark medulla); that urine decides on the excretory phase;
# - **open**: which map is more specific, at which layer, SAM against Grad-CAM (C50 to C54 and later); whether voting
#   helps; that errors fall into neighbouring phases, within the ceiling above.
#
# With the scan time as label nothing in the rule names an organ: every organ enhances with time, and which one tells
# most is for the network to find. Then a map that marks the kidney says something about the kidney and not about the
# reader (C46, C49, C56 become tests); the signs of C48 still follow from the kinetics, and excretion is still the one
# sign of its phase. The price is that cardiac output now blurs the turns from one phase to the next, at the times
# below. The control is one parameter, `01_prepare_cohort` with `labelling = "scan_time"`, and one more configuration:
# 93_compare_runs gives the commands and lays its verdicts beside these.

# %%
print("turns in time, s:", TURNS)

# %% [markdown]
# ## Save

# %%
figures, tables = resolve(figures), resolve(tables)
results = {"phantom_hu": hu, "phantom_geometry": geometry.reset_index(), "phantom_noise": noise}
for name, table in results.items():
    with atomic_path(tables / f"{name}.csv") as file:
        table.round(4).to_csv(file, index=False)
with atomic_path(tables / "phantom_label_ceiling.csv") as file:
    pd.concat(ceilings, names=["label"]).reset_index().round(4).to_csv(file, index=False)
parameters = {"series_measured": series_measured, "kidney_patients": kidney_patients, "noise_patients": noise_patients}
for name, figure in drawn.items():
    files = save_figure(figure, figures / name)
    inputs = (resolve(dicom_folder) / "truth.csv",)
    write_sidecar(files[0], notebook="92_look_at_phantom", parameters=parameters, inputs=inputs)

# %% [markdown]
# ## What still looks wrong
#
# **Anatomy.** Kidneys are ellipsoids with a notch; between their length, which is a little too long, and the extent of
# both, a little too short, the shape of the poles is a compromise. Their outline is smooth; there is no scar, no stone,
# no atrophy, no second ureter, and the calyces of a slice hang together more neatly than in patients. Loops of bowel
# are round tubes that share a wall where they touch, while real ones flatten against each other; only folds that stand
# across the plane are drawn, and the stomach is three sacs. The liver has no caudate lobe and few vessels near its
# surface; the vena cava is round, psoas and back muscles are plain shapes. Trunks carry no clothing, wires or creases;
# nobody has fluid in the belly, a hernia, metal, lung bases or a missing organ. Arms turn with the trunk and hang
# beside the table, and a ureter may touch the vena cava.
#
# **Image.** Streaks are horizontal noise: the dark bands between arms and spine of the first real slice are beam
# hardening, which is not simulated, nor is the oblique grain of the third. Iterative reconstruction makes noise depend
# on the local contrast; here it is stationary but for its size. Thin slices are sharper and noisier for every make
# alike, though only one make's were measured. Edges of organs are sharper than breathing leaves them.
#
# **Hounsfield units.** Renal veins are 20 HU brighter from 50 to 75 s than published means, which already put them
# above the aorta, and so in nine scans of ten: the bolus leaves the kidney's well-mixed vessels late. A smaller vein
# mends it at the price of the corticomedullary phase. Hepatic veins are thick enough to be measured on a few series
# only; without blur they are 10 HU too bright in the corticomedullary phase, 30 too dark after it and 20 too bright in
# the pyelographic one, since they fill too slowly once they have begun. The vena cava is 15 HU too dark in the
# corticomedullary and in the nephrographic phase. Renal veins lie in the plane: in thick slices their measured core
# holds fat.
#
# **Kinetics.** Well-mixed vessels smear the bolus: five seconds after the trigger Goshima's artery stands at 240 HU and
# the phantom's, with his protocol, near 200. The cortex then peaks 25 HU too high, and the medulla lags by 25 HU. Where
# his cortex and medulla differ by less than 30 HU, at 45 s, the phantom's do so from 60 s on: the table of HU by phase
# wants 50 HU there at three quarters of the dose, and the public slices above look like it. At half the cardiac output
# the aorta is too bright by a tenth.
#
# **Labels.** Five phases are cut from a continuum by one index. Readers of patients disagree for more reasons: motion,
# an obstructed or absent kidney, heart failure, a scan that was started late.
#
# None of it is tied to the phase, so that none gives it away; a network may find the phantom's five phases easier than
# those of patients all the same.
