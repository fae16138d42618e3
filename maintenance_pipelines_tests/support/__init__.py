"""What the tests stand on: throwaway PostgreSQL clusters and a transaction pooler."""
