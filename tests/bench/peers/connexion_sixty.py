"""Stock connexion[flask] with 60 operations: those of the shop, fifteen times over.

Only its start is measured: Concord's contract has about as many operations.
"""

from copy import deepcopy
from pathlib import Path

import connexion
import yaml

from tests.bench.peers import connexion_stock

COPIES = 15

specification = yaml.safe_load(Path(connexion_stock.__file__).with_suffix(".yaml").read_text())
paths = dict(specification["paths"])
for copy in range(1, COPIES):
    for path, methods in deepcopy(paths).items():
        for operation in methods.values():
            name = operation["operationId"].rpartition(".")[2]
            # Each has a function of its own, which is found by its name in this module.
            globals()[f"{name}_{copy}"] = getattr(connexion_stock, name)
            operation["operationId"] = f"{__name__}.{name}_{copy}"
        specification["paths"][f"/copies/{copy}{path}"] = methods

app = connexion.FlaskApp(__name__)
app.add_api(specification, strict_validation=True)
