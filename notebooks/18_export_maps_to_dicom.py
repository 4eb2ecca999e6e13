# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 18 · Export maps to DICOM
#
# How does a radiologist see a map where CT is read, in the PACS, beside the slice that it explains?
#
# | | |
# |---|---|
# | **reads** | `maps/` of 05_compute_maps, `private/source_files.csv` of 01_prepare_cohort, and the CT files |
# | **writes** | `private/dicom_maps/`: of each map a Parametric Map (values) and a Secondary Capture (a picture) |
# | **takes** | about a second for each slice |
#
# Both objects belong to the patient's study and name the CT image that they explain. They hold the header's names and
# therefore stay in `private/`. Each says in its description that it is research and not for diagnosis; the picture says
# so in its pixels, too. A map tells what moved this network's score, not where disease is.
#
# After `make apply` the command is `make pacs` (`make pacs RUN=name` for another run). Objects of an earlier export are
# deleted first.

# %%
from IPython.display import display
import matplotlib.pyplot as plt
import pandas as pd
from pydicom.uid import generate_uid

from lib.dicom.errors import DicomError
from lib.dicom.export import WARNING, Method, capture, on_image, parametric_map, read_explained
from lib.dicom.series import SliceReader
from lib.figures.burned_text import burn_text
from lib.figures.display import overlay, scaled
from lib.files import atomic_path, require
from lib.private import private_folder
from lib.maps.saved import read_maps
from lib.titles import LAYER_TITLES, METHOD_TITLES, PHASE_TITLES

# %% tags=["parameters"]
maps: str = "runs/apply/maps"  # made by 05_compute_maps
private: str = "runs/apply/private"  # made by 01_prepare_cohort; the objects go into its dicom_maps
methods: str = "cam sam grad_cam"  # which maps, separated by blanks
layer: str = ""  # the layer of SAM and Grad-CAM; empty: the last one

# %% [markdown]
# ## Maps and the files that they explain

# %%
maps, private = require(maps, "05_compute_maps").parent / "maps", private_folder(private)
saved = read_maps(maps)
slices = pd.read_csv(maps / "slices.csv", dtype={"series": str, "name": str})
files = pd.read_csv(require(private / "source_files.csv", "01_prepare_cohort"), dtype={"series": str})
explained = slices.merge(files, on=["series", "slice"])[["name", "series", "slice", "phase", "file"]]
print(f"{len(explained)} slices")
wanted = [key for key in saved.maps if key[1] in methods.split()]
last = {(name, method): where for name, method, where in wanted}
wanted = [key for key in wanted if key[2] == (layer or last[key[:2]]) or key[1] == "cam"]

# %% [markdown]
# ## The objects
#
# The values of a map are written as they are, on the pixels of the CT slice, turned back to the way in which the slice
# is stored. The picture shows the map by its rank order (saliency maps) or within its range (class activation maps).

# %%
folder, reader, written, pictures = private_folder(private / "dicom_maps"), SliceReader(), [], {}
for earlier in folder.glob("*.dcm"):
    earlier.unlink()
for row in explained.itertuples():
    try:
        source = read_explained(row.file)
    except DicomError as error:
        written.append((row.name, "", "", f"not written: {str(error).partition(': ')[2]}"))
        continue
    hu = reader.read(source.item)
    for number, key in enumerate((key for key in wanted if key[0] == row.name), start=1):
        where = f"layer {LAYER_TITLES[key[2]]}" if key[2] in LAYER_TITLES else key[2]
        method = Method(METHOD_TITLES.get(key[1], key[1]), where, PHASE_TITLES.get(row.phase, row.phase))
        shown = "rank" if key[1] in ("saliency", "guided_backprop") else "range"
        heat = scaled(on_image(saved.maps[key], source.item), shown)
        picture = burn_text(overlay(hu, heat), [WARNING, f"{method.name} {method.layer} for {method.phase}"])
        values = parametric_map(source, saved.maps[key], method, series_uid=generate_uid(), number=number)
        image = capture(source, picture, method, series_uid=generate_uid(), number=number)
        for kind, dataset in (("map", values), ("picture", image)):
            dataset.save_as(folder / f"{row.series}-{row.slice:04d}-{key[1]}-{key[2]}-{kind}.dcm")
        written.append((row.name, key[1], key[2], "written"))
        pictures[key] = picture

# %%
table = pd.DataFrame(written, columns=["slice", "method", "layer", "objects"])
with atomic_path(folder / "written.csv") as file:
    table.to_csv(file, index=False)
print(f"{2 * (table['objects'] == 'written').sum()} objects of {table['slice'].nunique()} slices: {folder}")
display(table.groupby(["method", "layer", "objects"]).size().rename("slices").reset_index())

# %% [markdown]
# ## What the PACS shows
#
# The pictures of the first slice, as they are stored.

# %%
first = [key for key in pictures if key[0] == next(iter(pictures))[0]] if pictures else []
if first:
    figure, axes = plt.subplots(1, len(first), figsize=(4 * len(first), 4), squeeze=False)
    for axis, key in zip(axes[0], first, strict=True):
        axis.imshow(pictures[key])
        axis.set_axis_off()

# %% [markdown]
# The folder `dicom_maps` can be sent to a PACS as it is. The objects pass the checks of dciodvfy without an error and
# come back unchanged from a DICOMweb server (Orthanc) where the tests find one.
