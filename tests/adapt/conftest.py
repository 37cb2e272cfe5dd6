"""Tiny models to fit profiles to, whose answers are noise."""

import pytest

import araio
from araio.testing.checkpoints import write_tiny_checkpoint


@pytest.fixture(scope="package")
def tiny_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapt") / "tiny"
    write_tiny_checkpoint(folder, "v3")
    return folder


@pytest.fixture(scope="package")
def tiny(tiny_folder):
    return araio.load(tiny_folder)


@pytest.fixture(scope="package")
def pocket():
    return araio.load("pocket")
