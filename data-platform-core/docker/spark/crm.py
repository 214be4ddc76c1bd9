"""What a SparkApplication names: Spark submits a file, and this one is the command `crm`."""

from data_platform_core.cli import main

main()
