"""The graph of notebooks: DICOM -> cohort -> network -> votes, maps, masking -> figures, tables, claims.

A rule is a notebook. It runs again when the notebook, a module of lib that it imports, an input or a parameter changes.
"""

import json
import os
import sys
from pathlib import Path

from lib.private import link_source
from lib.provenance import modules_used


# The notebooks run in the environment that snakemake runs in, wherever it was called from.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

RUN = f"runs/{config.get('run', config['profile'])}"
OWN_CT = config["profile"] == "apply"
PRIVATE = OWN_CT or "dicom" in config  # somebody's CT, not the phantom
if OWN_CT and "dicom" not in config:
    sys.exit("Say where your CT is: make apply DICOM=/path/to/folder")
DICOM = f"{RUN}/dicom"
if "dicom" in config:  # what is recorded of a run names a link in private/, not the folder
    try:
        DICOM = os.path.relpath(link_source(f"{RUN}/private", config["dicom"]))
    except FileNotFoundError as error:
        sys.exit(str(error))
NETWORK = config.get("network", f"{RUN}/networks/top")
PREDICTIONS = f"{RUN}/predictions.parquet" if OWN_CT else f"{NETWORK}/predictions.parquet"
PATHS = {
    "cohort": f"{RUN}/cohort",
    "private": f"{RUN}/private",
    "dicom_folder": DICOM,
    "network": NETWORK,
    "predictions": PREDICTIONS,
    **{name: f"{RUN}/{name}" for name in ("votes", "maps", "masking", "figures", "tables")},
    "run": RUN,
}
READINGS = {  # what a notebook takes from the parameters of 06_mask_voxels, so that a run has one reading
    "05": ("score",),
    "13": ("score", "fraction", "per_phase", "seed"),
    **dict.fromkeys(("08", "11", "12", "17"), ("score", "fraction", "within", "fill")),
}
EXECUTE = "python -m lib.run_notebook {input.notebook} {log} --parameters {params.parameters:q}"


def code(name):
    """The notebook and the modules of lib that it uses."""
    notebook = Path(f"notebooks/{name}.py")
    return {"notebook": str(notebook), "modules": [str(module) for module in modules_used(notebook)]}


def parameters(name, *paths):
    """What the notebook is run with: where its files are, how voxels were masked, and the profile's own parameters."""
    chosen = {path: PATHS[path] for path in paths}
    masked = config["parameters"].get("06_mask_voxels", {})
    chosen |= {reading: masked[reading] for reading in READINGS.get(name[:2], ()) if reading in masked}
    return json.dumps(chosen | config["parameters"].get(name, {}), sort_keys=True)


def executed(name):
    """Where the executed notebook goes; the one that knows the source's paths is private if the source is."""
    private = "private/" if PRIVATE and name == "01_prepare_cohort" else ""
    return f"{RUN}/{private}notebooks/{name}.ipynb"


onsuccess:
    print(f"Done: {RUN}/figures, {RUN}/tables, {RUN}/{'votes/series.csv' if OWN_CT else 'claims.csv'}")


rule all:
    input:
        f"{RUN}/votes/volumes.parquet",
        expand(f"{RUN}/figures/{{figure}}.png", figure=["fig1", "fig3", "fig4"]),
        f"{RUN}/masking/done.json" if OWN_CT else f"{RUN}/claims.csv",
        f"{RUN}/tables/organ_baseline.csv" if not PRIVATE else [],


rule prepare_cohort:
    input:
        **code("01_prepare_cohort"),
    output:
        f"{RUN}/cohort/slices.parquet",
    params:
        parameters=parameters("01_prepare_cohort", "dicom_folder", "cohort", "private"),
    threads: 16
    log:
        executed("01_prepare_cohort"),
    shell:
        EXECUTE


if not OWN_CT:

    rule train_network:
        input:
            rules.prepare_cohort.output,
            **code("02_train_network"),
        output:
            f"{NETWORK}/model.keras",
            f"{NETWORK}/predictions.parquet",
            f"{NETWORK}/history.csv",
        params:
            parameters=parameters("02_train_network", "cohort", "network"),
        threads: 16
        resources:
            gpu=1,
        log:
            executed("02_train_network"),
        shell:
            EXECUTE


rule vote_slices:
    input:
        rules.prepare_cohort.output,
        f"{NETWORK}/model.keras",
        [] if OWN_CT else PREDICTIONS,
        **code("04_vote_slices"),
    output:
        f"{RUN}/votes/volumes.parquet",
        PREDICTIONS if OWN_CT else [f"{RUN}/tables/table2.csv", f"{RUN}/figures/s4.png"],
    params:
        parameters=parameters("04_vote_slices", "cohort", "network", "predictions", "votes", "tables", "figures"),
    log:
        executed("04_vote_slices"),
    shell:
        EXECUTE


rule compute_maps:
    input:
        rules.prepare_cohort.output,
        f"{NETWORK}/model.keras",
        PREDICTIONS,
        **code("05_compute_maps"),
    output:
        f"{RUN}/maps/maps.npz",
        f"{RUN}/maps/slices.csv",
    params:
        parameters=parameters("05_compute_maps", "cohort", "network", "predictions", "maps"),
    log:
        executed("05_compute_maps"),
    shell:
        EXECUTE


rule mask_voxels:
    input:
        rules.prepare_cohort.output,
        f"{NETWORK}/model.keras",
        PREDICTIONS,
        **code("06_mask_voxels"),
    output:
        f"{RUN}/masking/done.json",
    params:
        parameters=parameters("06_mask_voxels", "cohort", "network", "predictions", "masking"),
    threads: 16
    resources:
        gpu=1,
    log:
        executed("06_mask_voxels"),
    shell:
        EXECUTE


MAPS, MASKING = rules.compute_maps.output, rules.mask_voxels.output
FIGURES = {
    "07_fig1_final_layer_maps": ("maps", MAPS, ["figures/fig1.png", "figures/s7.png"]),
    "08_fig2_masking_specificity": ("masking", MASKING, ["figures/fig2.png", "tables/fig2.csv"]),
    "09_fig3_grad_cam_layers": ("maps", MAPS, ["figures/fig3.png"]),
    "10_fig4_sam_layers": ("maps", MAPS, ["figures/fig4.png"]),
    "11_fig5_sam_against_grad_cam": ("masking", MASKING, ["figures/fig5.png", "tables/fig5.csv"]),
    "12_fig6_sam_layer_specificity": ("masking", MASKING, ["figures/fig6.png", "tables/fig6.csv"]),
}
for notebook, (source, made_from, drawn) in FIGURES.items():

    rule:
        name:
            notebook[3:]
        input:
            made_from,
            **code(notebook),
        output:
            [f"{RUN}/{file}" for file in drawn],
        params:
            parameters=parameters(notebook, source, "figures", "tables"),
        log:
            executed(notebook),
        shell:
            EXECUTE


if not PRIVATE:

    rule anatomy_of_maps:
        input:
            rules.prepare_cohort.output,
            rules.train_network.output,
            **code("13_anatomy_of_maps"),
        output:
            [f"{RUN}/tables/anatomy{table}.csv" for table in ("", "_tissues", "_contrasts", "_sign", "_focus")],
            f"{RUN}/figures/anatomy.png",
            f"{RUN}/figures/anatomy_sign.png",
        params:
            parameters=parameters("13_anatomy_of_maps", "cohort", "network", "predictions", "figures", "tables"),
        log:
            executed("13_anatomy_of_maps"),
        shell:
            EXECUTE

    rule measure_organs:
        input:
            rules.prepare_cohort.output,
            rules.train_network.output,
            **code("19_measure_organs"),
        output:
            f"{RUN}/tables/organ_baseline.csv",
            f"{RUN}/figures/organ_baseline.png",
        params:
            parameters=parameters("19_measure_organs", "cohort", "predictions", "figures", "tables"),
        log:
            executed("19_measure_organs"),
        shell:
            EXECUTE


if not OWN_CT:

    rule compare_with_paper:
        input:
            [f"{RUN}/{file}" for _, _, drawn in FIGURES.values() for file in drawn],
            rules.train_network.output,
            rules.vote_slices.output,
            rules.anatomy_of_maps.output if not PRIVATE else [],
            **code("17_compare_with_paper"),
        output:
            f"{RUN}/claims.csv",
        params:
            parameters=parameters("17_compare_with_paper", "run"),
        log:
            executed("17_compare_with_paper"),
        shell:
            EXECUTE
