from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES, ORGANS, find_organ


def test_ids_are_those_of_abdomenatlas():
    assert ORGAN_NAMES == (
        "aorta",
        "gall_bladder",
        "kidney_left",
        "kidney_right",
        "liver",
        "pancreas",
        "postcava",
        "spleen",
        "stomach",
    )
    assert [organ.id for organ in ORGANS] == list(range(1, len(ORGANS) + 1))
    assert ORGAN_IDS["spleen"] == 8


def test_names_and_aliases_are_found_and_unique():
    names = [name for organ in ORGANS for name in (organ.name, *organ.aliases)]
    assert len(names) == len(set(names))
    assert find_organ(" Left  Kidney").name == "kidney_left"
    assert find_organ("Inferior-Vena_Cava").name == "postcava"
    assert find_organ("kidney") is None
    assert len({organ.color for organ in ORGANS}) == len(ORGANS)
    assert len({organ.snomed_code for organ in ORGANS}) == len(ORGANS)
