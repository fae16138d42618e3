"""One room per source system. Knows the engine; knows no Dagster and no other system."""
