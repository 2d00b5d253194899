"""The study of linear fine-tuning: ordinary runs beside linear models trained in their place."""
