"""Can you write the gradients yourself? A sheet with ten blanks, and what checks them.

    tasks.md      the ten tasks: docstrings, hints, and the page around them
    slips.md      wrong lines that learners write, and the sentence that names them
    tasks.py      reads both, and finds the known mistakes of each task in the gallery
    sheet.py      makes sheets and notebooks of the page and the source of the lesson
    lesson.py     the lesson under the names of the sheet: the right answers
    process.py    the learner's program, in a process of its own; runner.py is what runs there
    checker.py    is each answer right, and if not, what would a teacher say?
    training.py   the learner's program beside the package, batch by batch
    grade.py      a folder of sheets into a table: python -m npvae.lab.grade FOLDER

`python scripts/lab.py start` begins. TEACHERS.md is one page for teachers.
"""
