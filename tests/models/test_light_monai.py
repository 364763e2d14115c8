"""What a process loads before it predicts."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from atlas8k.models.light_monai import NOT_FOR_PREDICTION, import_monai_for_prediction
import_monai_for_prediction()
from tests.models.tiny import body_ct, tiny
from atlas8k.models.predict import Predictor
names = "unet", "nnunet", "swin_unetr"
networks = {name: tiny(name, window=(32, 32, 32)) for name in names}
assert Predictor(networks).predict(body_ct()).names == names
print(*sorted({"mlflow", "ignite", "transformers"} & set(sys.modules)))
import pandas, matplotlib  # what was hidden for MONAI is there afterwards
assert pandas.DataFrame and matplotlib.__version__
"""


def test_the_networks_work_without_what_the_rest_of_monai_would_load():
    done = subprocess.run(
        [sys.executable, "-c", CODE], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
