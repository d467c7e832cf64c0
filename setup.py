import re
import runpy
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py


root = Path(__file__).parent
version = re.search(r'__version__ = "(.+?)"', (root / "solopo_llamafactory" / "__init__.py").read_text()).group(1)


class BuildWithStarter(build_py):
    """Puts what `solopo init` writes into the wheel: it lies beside the package, where people read it."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            starter = runpy.run_path(str(root / "solopo_llamafactory" / "starter_files.py"))
            for name in starter["SHIPPED"]:
                target = Path(self.build_lib, "solopo_llamafactory", "starter", name)
                target.parent.mkdir(parents=True, exist_ok=True)
                starter["copy"](root / name, target)


setup(
    name="solopo-llamafactory",
    version=version,
    description="SoLoPO (short-to-long preference optimization) as a training stage of LLaMA-Factory",
    long_description=(root / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    cmdclass={"build_py": BuildWithStarter},
    packages=find_packages(include=["solopo_llamafactory", "solopo_llamafactory.*"]),
    package_data={"solopo_llamafactory": ["*/*.jinja", "common/pages/style.css"]},
    python_requires=">=3.11",
    install_requires=[
        "llamafactory>=0.9.5,<0.10",
        "torch",
        "transformers",
        "datasets",
        "pyyaml",
        "jinja2",
        "regex",
    ],
    extras_require={
        # RULER's essays need the last two, which lm_eval's own extra `ruler` leaves out.
        "eval": ["lm_eval[hf,ruler,longbench,ifeval,math]>=0.4.13", "beautifulsoup4", "html2text"],
        "deepspeed": ["deepspeed", "ninja"],
        "flash-attn": ["flash-attn"],
        "liger": ["liger-kernel"],
        "sample": ["openai"],
        "test": [
            "bitsandbytes",
            "hypothesis",
            "openai",
            "playwright",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
            "deepspeed",
            "ninja",
            "lm_eval[hf]",
        ],
    },
    entry_points={
        "console_scripts": ["solopo = solopo_llamafactory.cli:main"],
        # PyTorch calls every torch.backends entry point at the end of `import torch`. It is meant for devices; here it
        # reaches each process that LLaMA-Factory starts (torchrun workers, web UI children). See autoload.py.
        "torch.backends": ["solopo_llamafactory = solopo_llamafactory.autoload:install"],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
