"""Studies: many arms of pre-training and evaluation from one short file, run, resumed, compared and fitted."""
