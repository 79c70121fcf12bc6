"""Fixtures for the tests of the API, besides a service."""

import httpx
import pytest

from tests.service import Service


@pytest.fixture(scope="module")
def client(service: Service) -> httpx.Client:
    """One client for a module, because making one is slow. Who asks is in each request's headers.

    Requests that are counted by network address bring one along (`fresh_address`).
    """
    return service.client()
