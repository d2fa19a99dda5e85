"""Exports of an output directory: carried on into the formats that other tools read."""

from pipeline.export.exporting import export
from pipeline.export.formats import EXPORTERS, Exporter, Format
from pipeline.export.options import ExportChoices
from pipeline.export.report import ExportReport

__all__ = ["EXPORTERS", "ExportChoices", "ExportReport", "Exporter", "Format", "export"]
