"""How good a prepared scan is: measures, pictures, and what is unlike the rest of the cohort."""
