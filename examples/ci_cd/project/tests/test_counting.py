from wordtally import most_common, tally, words


def test_words_are_lower_case_and_in_order() -> None:
    assert words("To be, or NOT to be.") == ["to", "be", "or", "not", "to", "be"]


def test_an_apostrophe_belongs_to_its_word() -> None:
    assert words("it's the dog's") == ["it's", "the", "dog's"]


def test_numbers_are_no_words() -> None:
    assert words("route 66") == ["route"]


def test_words_are_counted() -> None:
    assert tally("to be or not to be") == {"to": 2, "be": 2, "or": 1, "not": 1}


def test_equally_frequent_words_are_in_alphabetical_order() -> None:
    assert most_common("b a c a b", 2) == [("a", 2), ("b", 2)]


def test_an_empty_text_has_no_words() -> None:
    assert most_common("") == []
