import sys

from wordtally.counting import most_common

for word, count in most_common(sys.stdin.read()):
    print(f"{count} {word}")
