"""What scripts write into a document: the text between two marks."""
import sys


def write_between(path, begin, end, text, check, hint):
    """Puts `text` between the lines `begin` and `end` of `path`; with `check` it only looks. Tells where the document
    says something else, and what to run then (`hint`). True where it differed."""
    old = path.read_text()
    before, found_begin, rest = old.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        sys.exit(f"error: {path} has no place for what was measured ({begin} … {end})")
    new = before + begin + "\n" + text + "\n" + end + after
    if new == old:
        return False
    print(f"{path} is not what bench/results says: {hint}" if check else f"wrote {path}")
    if not check:
        path.write_text(new)
    return True
