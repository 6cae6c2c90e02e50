"""Print how loud each application is, ten times a second, for three seconds."""

import time

from stagebox.meters import APPLICATION, Meters

with Meters() as meters:
    for _ in range(30):
        time.sleep(0.1)
        readings = meters.read()
        for reading in readings:
            if reading.of.kind == APPLICATION and reading.peak_dbfs is not None:
                print(f"{reading.of.name}: {reading.peak_dbfs:.1f} dBFS")
    print(readings)
