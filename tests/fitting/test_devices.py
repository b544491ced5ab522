"""Several processes, or nodes, fit one network: the recipe means what it means for one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from braintune.cohort.tables import read_table
from braintune.errors import InputError
from braintune.fitting.fit import Execution, fit
from conftest import tiny_recipe, tiny_values


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_two_nodes_predict_what_one_process_does(cohort_folder: Path, tmp_path: Path) -> None:
    import yaml

    from braintune.cohort.read import read_cohort

    values = tiny_values(
        train={"epochs": 1, "augment": "none"},
        adapter={"name": "probe"},
    )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(values))
    fit(
        tiny_recipe(**{k: values[k] for k in ("train", "adapter")}),
        read_cohort(cohort_folder),
        tmp_path / "one",
        Execution(accelerator="cpu"),
    )
    command = [
        *(sys.executable, "-m", "braintune", "fit", str(recipe), "--cohort", str(cohort_folder)),
        *("--out", str(tmp_path / "two"), "--accelerator", "cpu", "--nodes", "2"),
        *("--workers", "1", "--store", str(tmp_path / "store")),
    ]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "OMP_NUM_THREADS": "1"}
    nodes = [
        subprocess.Popen(command, env=os.environ | meeting | {"NODE_RANK": str(rank)})
        for rank in range(2)
    ]
    try:
        assert [node.wait(timeout=240) for node in nodes] == [0, 0]
    finally:
        for node in nodes:
            node.kill()
    one, two = (_predictions(tmp_path / name) for name in ("one", "two"))
    pd.testing.assert_frame_equal(two, one, rtol=1e-4, atol=1e-5)


def _predictions(run: Path) -> pd.DataFrame:
    table = read_table(run / "predictions.tsv").set_index("scan_id")
    return table[["p_CN", "p_AD"]].astype(float)


@pytest.mark.parametrize(("nodes", "devices"), [(3, 1), (1, 3), (0, 1), (2, 4)])
def test_a_batch_that_can_not_be_shared_is_refused(
    cohort_folder: Path, tmp_path: Path, nodes: int, devices: int
) -> None:
    from braintune.cohort.read import read_cohort

    execution = Execution(accelerator="cpu", nodes=nodes, devices=devices)
    with pytest.raises(InputError, match="shared by|Give 1 or more"):
        fit(tiny_recipe(), read_cohort(cohort_folder), tmp_path / "run", execution)
    assert not (tmp_path / "run").exists()
