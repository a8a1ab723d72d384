from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# Needed to run the scripts of this repository, not the plugin.
SCRIPTS = ["kinto-http>=11.7", "requests>=2.31", "tqdm>=4.66", "urllib3>=2.2"]

# 3.11 asks for the bucket with its first request, which not everybody may. The others are what the
# plugin itself imports.
GCLOUD = [
    "google-auth>=2.26.1",
    "google-cloud-storage>=3.0,!=3.11.*",
    "google-crc32c>=1.6",
    "requests>=2.31",
]

setup(
    name="kinto-attachment",
    version="10.0.0.dev0",
    description="Attach files to Kinto records",
    long_description="\n\n".join(
        (HERE / name).read_text(encoding="utf-8") for name in ("README.rst", "CHANGELOG.rst")
    ),
    long_description_content_type="text/x-rst",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    url="https://github.com/Kinto/kinto-attachment/",
    keywords=["kinto", "pyramid", "attachment", "upload", "S3", "Google Cloud Storage"],
    classifiers=[
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Framework :: Pyramid",
        "Topic :: Internet :: WWW/HTTP",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["kinto_attachment", "kinto_attachment.*"]),
    package_data={"kinto_attachment": ["py.typed"]},
    include_package_data=True,
    zip_safe=False,
    python_requires=">=3.10",
    install_requires=[
        "boto3>=1.36",
        "botocore>=1.36",
        "colander>=2.0",
        "kinto>=26.3.3,<27",
        "multipart>=2.0",
        "pyramid>=2.1",
        "pyramid_storage>=2.0",
        "tqdm>=4.66",
        "transaction>=4.0",
        "urllib3>=2.0.2",
    ],
    extras_require={"gcloud": GCLOUD, "scripts": SCRIPTS},
    entry_points={"console_scripts": ["kinto-attachment = kinto_attachment.commands:main"]},
)
