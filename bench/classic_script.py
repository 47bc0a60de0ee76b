"""The Keras recipe that photolabel replaces, as people have it: one photo, the likeliest class.

usage: classic_script.py WEIGHTS.h5 PHOTO
"""

import sys

from keras.applications.vgg16 import VGG16, decode_predictions, preprocess_input
from keras.utils import img_to_array, load_img

weights, photo = sys.argv[1:]
model = VGG16(weights=weights)
image = img_to_array(load_img(photo, target_size=(224, 224)))
image = image.reshape((1, *image.shape))
answer = model.predict(preprocess_input(image))
index = int(answer[0].argmax())
try:
    label = decode_predictions(answer, top=1)[0][0]
    print(f"{label[1]} ({label[2] * 100:.2f}%)")
except Exception:  # the class index cannot be downloaded: the index will do
    print(f"class {index} ({answer[0, index] * 100:.2f}%)")
