"""Django on DynamoDB: records, transactions and what Django needs instead of an SQL database. Knows no app."""
