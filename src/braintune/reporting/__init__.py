"""Run folder to pages, figures and contact sheets; reads only what is on disk."""
