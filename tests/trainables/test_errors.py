from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator

from trainables.errors import describe_value


class Record(BaseModel):
    model_config = {"extra": "forbid"}

    count: Annotated[int, Field(ge=1)] = 1
    share: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    names: Annotated[tuple[str, ...], Field(min_length=2)] = ("a", "b")
    kind: Literal["last", "best"] = "last"
    files: dict[str, bool] = {}
    even: int = 0

    @field_validator("even")
    @classmethod
    def _check(cls, value: int) -> int:
        if value % 2:
            raise ValueError(f"must be even, got {value}")
        return value


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"count": "x"}, "count must be a whole number, got 'x'"),
        ({"count": 1.5}, "count must be a whole number, got 1.5"),
        ({"count": 0}, "count must be a number of at least 1, got 0"),
        ({"share": 1}, "share must be a number below 1.0, got 1"),
        ({"share": float("nan")}, "share must be a finite number, got nan"),
        ({"names": 3}, "names must be a list such as [a, b], got 3"),
        ({"names": ["a"]}, "names must have at least 2 entries, got ['a']"),
        ({"names": ["a", 1]}, "names.1 must be text, got 1"),
        ({"kind": "first"}, "kind must be 'last' or 'best', got 'first'"),
        ({"files": {"model": "maybe"}}, "files.model must be true or false, got 'maybe'"),
        ({"files": []}, "files must be a mapping such as {key: value}, got []"),
        ({"even": 3}, "even: must be even, got 3"),
        ({"more": 3}, "unknown key 'more'"),
        ([], "must be a mapping such as {key: value}, got []"),
    ],
)
def test_what_pydantic_finds_wrong_is_one_plain_line(values: Any, said: str) -> None:
    with pytest.raises(ValidationError) as error:
        Record.model_validate(values)
    assert describe_value(error.value.errors()[0]) == said
