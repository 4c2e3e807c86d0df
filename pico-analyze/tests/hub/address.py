"""The repository of these tests."""

REPO = "tester/model"
