"""The entry of `streamlit run app.py`: it leads to the first page and draws nothing itself."""

import streamlit as st

st.switch_page("pages/explore.py", query_params=st.query_params.to_dict())
