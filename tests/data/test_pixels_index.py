"""The strict model of a stored index has the fields that are written."""

import json
from dataclasses import asdict

from headstart.data.pixels import Facts, _Facts, _Index


def test_the_index_that_is_written_is_read() -> None:
    facts = asdict(Facts("ok", width=3, height=3))
    del facts["thumbnail"]
    assert set(_Facts.model_fields) == set(facts)
    index = {"bytes": 27, "sizes": [(3, 3)], "offsets": [0], "facts": [facts]}
    assert len(_Index.model_validate_json(json.dumps(index)).facts) == 1
