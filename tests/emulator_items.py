"""An emulator of DynamoDB has one more address in the tests, for the items of all tables at once.

| method | at ITEMS_PATH |
|--------|----------------|
| GET    | answers with all items: by the table's name, then by the values of their keys |
| PUT    | makes the items those of the body, which is such an answer |
| DELETE | deletes all items; the tables stay |

One call in place of a scan or a write for each table, which also finds what other processes have written.
"""

ITEMS_PATH = "/tests/items"
