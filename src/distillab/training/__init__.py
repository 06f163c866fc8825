"""The one LightningModule and the fit through which every network trains."""
