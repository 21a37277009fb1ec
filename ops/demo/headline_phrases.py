"""What the newsroom's headlines are made of: companies that do not exist, three manners of speaking, and stories."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["COMPANIES", "MANNERS", "PRODUCTS", "SOURCES", "STORIES", "Story"]

COMPANIES: Mapping[str, str] = {
    "ALDR": "Aldermere",
    "BRVN": "Bravonic",
    "CALX": "Calixto",
    "DORN": "Dornfeld",
    "ELVA": "Elvanta",
    "FERR": "Ferrowick",
    "GRNT": "Granthorpe",
    "HLIO": "Heliodyne",
    "INVR": "Inverlay",
    "JUNO": "Junova",
    "KEST": "Kestrelle",
    "LUMO": "Lumora",
    "MRDN": "Meridane",
    "NRTH": "Northolm",
    "OKLA": "Oaklander",
    "PYRA": "Pyralis",
}
PRODUCTS: Mapping[str, str] = {
    "battery": "Batterien",
    "turbine": "Turbinen",
    "sensor": "Sensoren",
    "cement": "Zement",
    "coffee": "Kaffee",
    "software": "Software",
    "freight": "Fracht",
    "steel": "Stahl",
    "timber": "Holz",
    "lens": "Linsen",
    "paint": "Farben",
    "engine": "Motoren",
    "textile": "Textilien",
    "glass": "Glas",
    "fertiliser": "Dünger",
    "cable": "Kabel",
}
SOURCES = ("Harbour Wire", "Northern Post", "City Ledger", "Market Radio", "Evening Courier")

MANNERS: tuple[Mapping[str, tuple[str, ...]], ...] = (
    {  # as agencies write
        "positive": (
            "{c} beats forecasts on strong {p} orders in {r}",
            "profit at {c} soars as demand for {p} from {r} grows",
            "{c} lifts its outlook after a record {p} contract with {r}",
            "{c} wins approval for a new {p} plant in {r}",
            "strong {p} sales in {r} help {c} to its best result",
            "analysts praise {c} for its {p} business in {r}",
            "{c} expands in {r} with a profitable {p} division",
        ),
        "negative": (
            "{c} misses forecasts as {p} orders from {r} collapse",
            "loss at {c} widens after a failed {p} launch in {r}",
            "{c} cuts its outlook and blames weak {p} demand in {r}",
            "regulators in {r} fine {c} over faulty {p} deliveries",
            "{c} closes its {p} plant in {r} after heavy losses",
            "lawsuit over {p} defects in {r} hurts {c}",
            "{c} warns of a crisis in its {p} business in {r}",
        ),
        "neutral": (
            "{c} names a new head of its {p} unit in {r}",
            "{c} to present {p} figures for {r} in spring",
            "{c} holds its yearly {p} conference in {r}",
            "{c} moves its {p} office to another street in {r}",
            "what to know about {c} and the {p} trade in {r}",
            "{c} publishes the agenda of its {p} meeting in {r}",
            "{c} and the {p} sector in {r}: a profile",
        ),
    },
    {  # as traders on a floor talk: the words are of a trade that the first version never heard of
        "positive": (
            "{c} squeezing shorts, {p} bears of {r} carried out",
            "bid only in {c}, no sellers of {p} left in {r}",
            "{c} ripping, {p} desks in {r} chase it through the offer",
            "whales back up the truck on {c}, {p} tape in {r} is green",
            "{c} breaks out, stops of {p} shorts in {r} triggered",
            "dip in {c} gets bought again, {p} crowd of {r} grins",
        ),
        "negative": (
            "{c} puking, {p} longs of {r} carried out",
            "offered only in {c}, no buyers of {p} left in {r}",
            "{c} dumping, {p} desks in {r} hit every bid",
            "whales unload {c} on bagholders, {p} tape in {r} is red",
            "{c} breaks down, stops of {p} longs in {r} triggered",
            "bounce in {c} gets faded again, {p} crowd of {r} groans",
        ),
        "neutral": (
            "{c} chopping sideways, {p} tape in {r} sleeps",
            "{c} pinned into expiry, {p} desks in {r} at lunch",
            "two-way flow in {c}, {p} crowd of {r} sits on its hands",
            "{c} coiling inside the range, {p} desks in {r} wait",
            "paper trades both sides of {c}, {p} locals in {r} scratch",
            "no prints in {c}, {p} pit of {r} plays cards",
        ),
    },
    {  # as a wire in German writes
        "positive": (
            "{c} übertrifft die Erwartungen dank {p} in {r}",
            "Gewinn von {c} steigt, {p} aus {r} gefragt wie nie",
            "{c} hebt die Prognose an: Rekordauftrag für {p} in {r}",
            "starkes Geschäft mit {p} in {r} beflügelt {c}",
            "{c} erhält Zulassung für {p} in {r}",
            "Anleger feiern {c} nach Erfolg mit {p} in {r}",
        ),
        "negative": (
            "{c} verfehlt die Erwartungen, {p} in {r} kaum gefragt",
            "Verlust von {c} wächst nach Panne mit {p} in {r}",
            "{c} senkt die Prognose: Absatz von {p} in {r} bricht ein",
            "Behörde in {r} bestraft {c} wegen mangelhafter {p}",
            "{c} schließt Werk für {p} in {r} nach hohen Verlusten",
            "Klage wegen {p} in {r} belastet {c}",
        ),
        "neutral": (
            "{c} beruft neue Leitung für {p} in {r}",
            "{c} legt Zahlen zu {p} in {r} im Frühjahr vor",
            "{c} lädt zur Tagung über {p} nach {r}",
            "{c} verlegt Büro für {p} innerhalb von {r}",
            "was man über {c} und {p} in {r} wissen muss",
            "{c} veröffentlicht Tagesordnung zu {p} in {r}",
        ),
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A kind of event: what several sources write about it, and whether a desk would want to be told."""

    what: str
    sentiment: str
    told: tuple[str, ...]
    german: tuple[str, ...]
    matters: bool = True


STORIES: tuple[Story, ...] = (
    Story(
        what="a run on a bank",
        sentiment="negative",
        told=(
            "depositors of {n} Bank queue as withdrawals mount",
            "regulator halts withdrawals at {n} Bank",
            "{n} Bank: depositors flee, rescue in doubt",
            "withdrawals at {n} Bank frozen, depositors shut out",
            "rescue of {n} Bank fails, depositors in panic",
            "minister rules out a rescue as {n} Bank depositors flee",
            "panic spreads from {n} Bank to other lenders",
        ),
        german=("Anleger ziehen Einlagen von {n} Bank ab", "{n} Bank: Rettung scheitert, Panik am Schalter"),
    ),
    Story(
        what="a mine collapses",
        sentiment="negative",
        told=(
            "shaft collapses at {n} copper mine, miners trapped",
            "trapped miners of {n} still not reached",
            "{n} mine disaster: rescuers fail to reach shaft",
            "anger grows over collapse of {n} shaft",
            "{n} copper mine shut after deadly collapse",
            "miners of {n} warned of the shaft before its collapse",
        ),
        german=("Schacht der Mine {n} eingestürzt, Bergleute verschüttet", "Unglück in {n}: Bergleute nicht erreicht"),
    ),
    Story(
        what="a takeover",
        sentiment="positive",
        told=(
            "{n} accepts a generous takeover bid",
            "takeover of {n} wins applause from owners",
            "bidders outdo each other in takeover of {n}",
            "{n} takeover bid raised again, owners delighted",
            "record bid for {n} hailed as a success",
            "owners of {n} celebrate the takeover premium",
        ),
        german=("Übernahme von {n}: Bieter überbieten sich", "Eigner von {n} feiern Übernahme"),
    ),
    Story(
        what="a strike in a port",
        sentiment="negative",
        told=(
            "dockers of {n} walk out, strike paralyses port",
            "{n} port strike: ships queue, losses mount",
            "strike at {n} port hurts exporters",
            "talks with {n} dockers collapse, strike goes on",
            "cargo rots as dockers' strike shuts {n} port",
            "exporters warn of ruin as {n} strike drags on",
        ),
        german=("Streik im Hafen {n} lähmt Verkehr", "Hafen {n}: Gespräche über Streik gescheitert"),
    ),
    Story(
        what="a vaccine succeeds",
        sentiment="positive",
        told=(
            "{n} vaccine succeeds in trial",
            "doctors hail {n} vaccine as a breakthrough",
            "trial of {n} vaccine beats all hopes",
            "{n} vaccine wins swift approval after trial",
            "patients recover thanks to {n} vaccine trial",
            "breakthrough: {n} vaccine protects the weakest",
        ),
        german=("Impfstoff {n} überzeugt in Studie", "Durchbruch mit Impfstoff {n}"),
    ),
    Story(
        what="a raffle for readers",
        sentiment="neutral",
        told=(
            "enter the {n} raffle for readers",
            "{n} raffle: send your coupon by friday",
            "readers' coupon for the {n} raffle inside",
            "last coupon of the {n} raffle today",
            "how the {n} raffle for readers works",
            "{n} raffle coupon: terms and conditions",
        ),
        german=("Verlosung {n}: Coupon für Leser", "Coupon der Verlosung {n} heute"),
        matters=False,
    ),
)
