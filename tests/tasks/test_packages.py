"""Files of installed packages by the name of the distribution, and the command for one that is missing."""

from __future__ import annotations

from pathlib import Path

import yaml

from tasks.packages import install_command, package_file, package_of


def test_a_file_of_an_installed_package_is_found_without_importing_it():
    found = package_file(Path("package:pyyaml/yaml/__init__.py"))
    assert found == Path(yaml.__file__)
    assert package_of(found) is None


def test_a_package_that_is_not_installed_keeps_its_name():
    place = Path("package:no-such-distribution/weights/a.pth")
    assert package_file(place) == place
    assert package_of(place) == "no-such-distribution"


def test_paths_of_the_file_system_stay():
    for place in (Path("/weights/a.pth"), Path("a.pth"), Path()):
        assert package_file(place) == place
        assert package_of(place) is None


def test_an_extra_of_clears_own_is_named_where_one_brings_the_package():
    assert install_command("onnxruntime") == 'pip install "clear-benchmark[photo]"'
    assert install_command("no-such-distribution") == "pip install no-such-distribution"
