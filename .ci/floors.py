"""How many floors each package has: the longest chain of modules that import one another, and how long it may be."""

import sys

import grimp

AT_MOST = {"pico_schema": 7, "pico_train": 16, "pico_analyze": 10}


def longest_chain(package: str) -> list[str]:
    """From the top floor down; imports for type checkers alone do not count, imports inside functions do."""
    graph = grimp.build_graph(package, exclude_type_checking_imports=True)
    below: dict[str, list[str]] = {}

    def chain(module: str) -> list[str]:
        if module not in below:
            below[module] = []  # a circle would end here; import-linter forbids them
            floors = (chain(imported) for imported in graph.find_modules_directly_imported_by(module))
            below[module] = [module, *max(floors, key=len, default=[])]
        return below[module]

    return max((chain(module) for module in sorted(graph.modules)), key=len)


def main() -> None:
    """Print each package's longest chain; fail where it is too long."""
    too_high = False
    for package, at_most in AT_MOST.items():
        chain = longest_chain(package)
        high = len(chain) > at_most
        too_high |= high
        print(f"{package}: {len(chain)} floors{f', more than {at_most}: ' + ' > '.join(chain) if high else ''}")
    sys.exit(too_high)


if __name__ == "__main__":
    main()
