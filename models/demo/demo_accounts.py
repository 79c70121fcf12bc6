"""Demo accounts: several hundred fictional people, the same every time."""

# ruff: noqa: RUF001 - names are written in the alphabets of those who bear them
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.identity.password import Passwords
from models.identity.user import User
from models.storage.database import Database
from models.storage.reader import Reader

DEMO_PASSWORD = "walrus-piano-lantern"  # noqa: S105 - it is meant to be known
"""The password of all demo accounts. It is public, so none of them is an administrator."""

_BATCH = 50
_FIRST_DAY = datetime(2024, 1, 8, 9, 0, tzinfo=UTC)
_SPAN = 600 * 24 * 60  # Minutes over which the accounts were opened.


class DemoActor(NamedTuple):
    """The actor of a demo action."""

    user_id: int
    is_admin: bool
    token_version: int = 1


class _Region(NamedTuple):
    """Given and family names of a region, as `native=latin`, or once if both are the same."""

    given: str
    family: str
    family_first: bool = False


_REGIONS = (
    _Region(
        "Amélie=amelie Benoît=benoit Chloé=chloe Étienne=etienne Inès=ines Loïc=loic Manon",
        "Aubert Bélanger=belanger Chevalier Desrosiers Fournier Girard Lefèvre=lefevre Moreau",
    ),
    _Region(
        "Alejandro Begoña=begona Camila Íñigo=inigo Joaquín=joaquin Lucía=lucia Mateo Ximena",
        "Álvarez=alvarez Castillo Domínguez=dominguez Muñoz=munoz Navarro Ortega Peña=pena Vidal",
    ),
    _Region(
        "Agnieszka Bartosz Grażyna=grazyna Jędrzej=jedrzej Łucja=lucja Paweł=pawel Wojciech Zofia",
        "Dąbek=dabek Górski=gorski Jabłoński=jablonski Kozłowska=kozlowska Nowak Wrona Zając=zajac",
    ),
    _Region(
        "Ayşe=ayse Çağla=cagla Emre Gülşen=gulsen İrem=irem Onur Şebnem=sebnem Yiğit=yigit",
        "Aydın=aydin Çelik=celik Doğan=dogan Kılıç=kilic Öztürk=ozturk Şahin=sahin Yıldız=yildiz",
    ),
    _Region(
        "Анна=anna Борис=boris Дмитрий=dmitri Елена=elena Ирина=irina Олег=oleg Юлия=yulia",
        "Беленко=belenko Коваленко=kovalenko Мельник=melnik Савченко=savchenko Шевчук=shevchuk",
    ),
    _Region(
        "Αλέξανδρος=alexandros Δήμητρα=dimitra Ελένη=eleni Κώστας=kostas Νίκος=nikos Σοφία=sofia",
        "Αντωνάκη=antonaki Δούκας=doukas Καλλέργη=kallergi Μακρής=makris Παππάς=pappas",
    ),
    _Region(
        "أمينة=amina حسن=hassan خديجة=khadija سامي=sami فاطمة=fatima ليلى=layla يوسف=youssef",
        "الحداد=alhaddad الخطيب=alkhatib النجار=alnajjar بغدادي=baghdadi منصور=mansour",
    ),
    _Region(
        "अनन्या=ananya अर्जुन=arjun दीपिका=deepika कबीर=kabir मीरा=meera रोहन=rohan सुनीता=sunita",
        "आचार्य=acharya गुप्ता=gupta जोशी=joshi मेहता=mehta शर्मा=sharma वर्मा=verma",
    ),
    _Region(
        "健太=kenta さくら=sakura 直樹=naoki 美咲=misaki 陽子=yoko 翔=sho 由美=yumi 大輔=daisuke",
        "佐藤=sato 鈴木=suzuki 高橋=takahashi 田中=tanaka 渡辺=watanabe 小林=kobayashi",
        family_first=True,
    ),
    _Region(
        "서연=seoyeon 민준=minjun 지우=jiwoo 하은=haeun 도윤=doyoon 유진=yujin 현우=hyunwoo",
        "김=kim 이=lee 박=park 최=choi 정=jung 강=kang 윤=yoon 임=lim",
        family_first=True,
    ),
    _Region(
        "Abiọ́lá=abiola Chinwe Emeka Fọláṣadé=folasade Ngozi Olúwaṣeun=oluwaseun Yétúndé=yetunde",
        "Adébáyọ̀=adebayo Balogun Eze Nwosu Ọlátúnjí=olatunji Okafor Ṣóyínká=soyinka",
    ),
    _Region(
        "Aoife Ciarán=ciaran Eleanor George Niamh Oisín=oisin Rhiannon Siân=sian Tomos",
        "Ashworth Byrne Fitzgerald Llewellyn MacLeod=macleod O'Connor=oconnor Pemberton Quinn",
    ),
)


def seed_demo_users(
    database: Database,
    passwords: Passwords,
    *,
    count: int = 300,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Create the first `count` demo accounts that do not exist yet; return how many were created.

    `progress` is called with the number of accounts done and the total.

    Raises:
        DatabaseUnavailable: the database cannot be reached; accounts created so far are kept.
    """
    password_hash = passwords.hash(DEMO_PASSWORD, email="")
    added = 0
    for first in range(0, count, _BATCH):
        numbers = range(first, min(first + _BATCH, count))
        added += database.transact(partial(_seed, numbers, password_hash), write=True)
        if progress is not None:
            progress(numbers.stop, count)
    return added


def demo_people(reader: Reader, numbers: range) -> list[User]:
    """Return the existing demo accounts with these numbers, in this order."""
    keys = [_draft(number, None).email_key for number in numbers]
    found = {
        user.email_key: user
        for user in reader.scalars(select(User).where(User.email_key.in_(keys)))
    }
    return [found[key] for key in keys if key in found]


def _seed(numbers: range, password_hash: str, session: Session) -> int:
    users = {user.email_key: user for user in (_draft(n, password_hash) for n in numbers)}
    taken = session.scalars(select(User.email_key).where(User.email_key.in_(users)))
    for key in taken:
        del users[key]
    session.add_all(users.values())
    return len(users)


def _draft(number: int, password_hash: str | None) -> User:
    """Return the person with this number; its data is the same in every Python version."""
    turn, place = divmod(number, len(_REGIONS))
    region = _REGIONS[place]
    given_names, family_names = region.given.split(), region.family.split()
    given, _, given_latin = given_names[turn % len(given_names)].partition("=")
    spread = turn + turn // len(given_names)
    family, _, family_latin = family_names[spread % len(family_names)].partition("=")
    address = f"{given_latin or given}.{family_latin or family}{number}".lower()
    user = User.draft(
        name=f"{family} {given}" if region.family_first else f"{given} {family}",
        email=f"{address}@example.{('com', 'net', 'org')[number % 3]}",
        password_hash=password_hash,
    )
    user.active = number % 11 != 0
    user.email_verified = number % 5 != 0
    user.created_at = user.updated_at = _FIRST_DAY + timedelta(minutes=number * 1777 % _SPAN)
    return user
