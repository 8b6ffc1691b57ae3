"""`make check` finds the words that readers stumbled over in all texts."""

from __future__ import annotations

import pytest

from tests.support.words import findings, names, prose, questions, remarks, strings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The error is told.\nIt Goes on", ["told", "Goes on"]),
        ("doors open; a stolen word, an untold one", []),
        ("Somebody rings at the front door", []),
        ("The adapter is a door", ["door"]),
        ("It holds up to 4 jobs, and holds up others", ["holds up "]),
        ("An order of jobs; read an order", ["read an order"]),
    ],
)
def test_words_are_found_whole_and_in_any_case(text: str, words: list[str]) -> None:
    assert [each.word for each in findings(text)] == words


def test_code_in_a_page_is_no_text_and_lines_stay_where_they_are() -> None:
    page = "A `told` one\n\n    told\n\n```sh\ntold\n```\n[a](told.md)\nIt is told.\n"
    (found,) = findings(prose(page))
    assert (found.word, found.line) == ("told", 9)


def test_docstrings_and_messages_are_text_and_names_are_not() -> None:
    source = 'told = "told"\n\ndef f():\n    """One\n\n    told.\n    """\n    raise E("is told")\n'
    assert [each.line for each in findings(strings(source))] == [6, 8]


def test_strings_of_tests_are_data_and_their_docstrings_are_text() -> None:
    source = '"""It is told."""\nx = "is told"  # told\n'
    assert [each.line for each in findings(strings(source, docstrings=True))] == [1, 2]


def test_comments_are_text_of_sources_scripts_and_styles() -> None:
    (found,) = findings(strings('told = "#told"  # it is told\nx = 1\n'))
    assert found.line == 1
    script = 'const told = "https://told";\n\n  // One is told.\n/* and\n   told */ told();\n'
    assert [each.line for each in findings(remarks(script))] == [3, 5]


def test_a_docstring_names_its_subject_first() -> None:
    source = (
        '"""What is there."""\n\ndef f():\n    """Whatever it is."""\n\ndef g():\n    "Whether."\n'
    )
    assert [(each.line, each.word) for each in questions(source)] == [(1, "What"), (7, "Whether")]


def test_names_of_modules_classes_and_functions_use_the_terms_of_the_field() -> None:
    source = "class JobNews:\n    def _tell(self): ...\n\ndef retell(told): ...\n"
    assert [(each.line, each.word) for each in names(source, "lives")] == [
        (1, "lives"),
        (1, "JobNews"),
        (2, "_tell"),
    ]


def test_names_of_tests_are_sentences_that_may_have_some_of_these_words() -> None:
    source = "def test_one_that_lives(): ...\n\ndef test_one_is_told(): ...\n"
    assert [each.line for each in names(source, "test_x", {"lives"})] == [3]
