"""A kind of hint that a config names in place of the default one."""

import pytest
from jsonargparse import ArgumentParser

from fdt.cli.plugs import configure_parsers
from feedback import hints


@pytest.mark.parametrize("name", ["SiblingHint", "ReferenceHint", "ComposedHint", "SkillHint"])
def test_it_keeps_its_own_template(name):
    """jsonargparse hands the arguments of a default on to another class that knows them."""
    configure_parsers()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--hint", type=hints.Hint, default=hints.CritiqueHint(max_tokens=7))
    given = parser.parse_object({"hint": {"class_path": f"feedback.hints.{name}"}})
    found = parser.instantiate(given).hint
    assert found.load_template() == getattr(hints, name)().load_template() != hints.CritiqueHint().load_template()
