"""Packs what `make_flights.py` makes into the files that the demo embeds, and leaves out all that can be told from the rest.

python make_flights.py OUT && python pack_flights.py OUT .
"""
import gzip, os, sys
import pandas as pd

made, out = sys.argv[1], sys.argv[2]
f = pd.read_csv(os.path.join(made, "flights-2013-09.csv.gz"))
sched = pd.to_datetime(f.sched, utc=True)
f["minute"] = ((sched - pd.Timestamp("2013-09-01", tz="UTC")).dt.total_seconds() // 60).astype(int)
f["hour"] = f.minute // 60
known = f.y.notna()
f["label_delay"] = f.label_delay_min.astype(int).astype(str).where(known, "")
f["late"] = f.y.map({0.: "0", 1.: "1"}).where(known, "")


def write(name, text):
    data = text.encode()
    with open(os.path.join(out, name), "wb") as file:
        file.write(gzip.compress(data, 9, mtime=0) if name.endswith(".gz") else data)


# One line a column, and the flights of one number beside each other: half the size of a plain CSV when compressed.
columns = ["minute", "carrier", "flight", "tailnum", "origin", "dest", "label_delay", "late"]
f = f.sort_values(["carrier", "flight", "origin", "dest", "minute"])
write("flights-2013-09.columns.gz", "".join(",".join([c, *f[c].fillna("").astype(str)]) + "\n" for c in columns))
weather = ["temp", "dewp", "humid", "wind_speed", "precip", "visib"]
w = f.dropna(subset=weather).drop_duplicates(["origin", "hour"]).sort_values(["origin", "hour"])
write("weather-2013-09.csv.gz", w[["origin", "hour", *weather]].to_csv(index=False))
r = f.drop_duplicates(["origin", "dest"]).sort_values(["origin", "dest"])
write("routes.csv", r[["origin", "dest", "origin_c", "dest_c", "distance"]].to_csv(index=False))
c = f.drop_duplicates("carrier").sort_values("carrier")
write("carriers.csv", c[["carrier", "carrier_c"]].to_csv(index=False))
