"""Results: what a record is, where records are kept, and how they compare. Imports neither torch nor Streamlit."""
